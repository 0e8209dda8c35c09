"""The file of one edited copy: a function of original, recipe, seed and number, for `ndec edit` and `ndec fetch`."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ndec_builder.core.decode import decode
from ndec_builder.edits.operations import Edited
from ndec_builder.edits.recipes import EDIT_RECIPES, edit_image, edit_json

_JPEG_QUALITY = 95  # of the file; the recipe decides how lossy the copy itself is
_NUMBERED = re.compile(r".+-([0-9]{6,18})\Z", re.ASCII | re.DOTALL)


def make_copy(
    original: Image.Image, recipe: str, seed: int, index: int, backgrounds: Sequence[Image.Image] = ()
) -> tuple[Edited, bytes]:
    """Copy number `index` of an upright RGB picture, and the bytes of its JPEG file.

    Each copy has its own random stream: one that fails does not change the rest.
    """
    edited = edit_image(original, recipe, np.random.default_rng([seed, index]), backgrounds)
    buffer = io.BytesIO()
    edited.image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return edited, buffer.getvalue()


def make_again(query_id: str, edit: str, original: bytes, rotation: int) -> bytes | None:
    """The file of a copy that `ndec edit` made, from the file of its original and the `edit` column of its query.

    The dataset may be a stranger's: of the record only recipe and seed are used, and its parameters are compared. None
    if they give other edits: another version of the recipe, pictures of `--backgrounds`, or a record that somebody else
    wrote. Raises DecodeError for an original that cannot be decoded.
    """
    number, record = _NUMBERED.match(query_id), _record(edit)
    recipe, seed = record.get("recipe"), record.get("seed")
    if number is None or recipe not in EDIT_RECIPES or type(seed) is not int or not 0 <= seed < 1 << 63:
        return None
    edited, data = make_copy(decode(original, rotation), recipe, seed, int(number[1]))
    return data if json.loads(edit_json(edited, recipe, seed)) == record else None


def _record(edit: str) -> dict[str, object]:
    try:
        record = json.loads(edit)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("recipe"), str) else {}
