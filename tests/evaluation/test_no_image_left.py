"""A benchmark whose pictures were moved: one message says which picture was not found, where, and what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.detectors import features


def test_the_message_names_the_first_picture_and_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any) -> tuple[Any, Any, dict[str, str]]:
        return np.zeros((2, 4), np.float32), np.zeros(2, bool), {"b": "cannot read: No such file or directory"}

    monkeypatch.setattr(features, "pool_features", nothing)
    monkeypatch.setattr(features, "_at_size", lambda detector, size: (None, None))
    images = pa.table({"image_id": ["a", "b"], "uri": ["photos/a.png", "photos/b.png"]})
    detector = cast(Any, SimpleNamespace(backbone=SimpleNamespace(size=224), checkpoint=None))
    with pytest.raises(NdecError) as caught:
        features.embed_images(Workspace(tmp_path), detector, images, Path, 8)  # type: ignore[arg-type]
    said = str(caught.value)
    assert "none of 2 images can be used; the first, b (photos/b.png): cannot read: No such file" in said
    assert "put them back" in said and "(" + "'" not in said
