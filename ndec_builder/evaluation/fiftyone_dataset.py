"""A report as a FiftyOne dataset: the JSON that `fiftyone.Dataset.from_json` loads. FiftyOne itself is not needed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.core.addresses import parse_address
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import write_json
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.predictions import Predictions

SLICES = ("query", "reference")
_TEXT = "fiftyone.core.fields.StringField"
_LABEL = "fiftyone.core.fields.EmbeddedDocumentField(fiftyone.core.labels.Classification)"
SAMPLE_FIELDS = {
    "filepath": _TEXT,
    "tags": "fiftyone.core.fields.ListField(fiftyone.core.fields.StringField)",
    "group": "fiftyone.core.fields.EmbeddedDocumentField(fiftyone.core.groups.Group)",
    "image_id": _TEXT,
    "query_id": _TEXT,
    "reference_id": _TEXT,
    "score": "fiftyone.core.fields.FloatField",
    "outcome": _LABEL,
    "kind": _LABEL,
}


def write_fiftyone(path: Path, dataset: Dataset, predictions: Predictions, name: str) -> Path:
    """Write pairs as a grouped dataset: one group per pair, with the slices `query` and `reference`.

    The pairs: the best prediction of each query, and every ground-truth pair that is not one of these. `outcome`:

    * `match`: a best prediction that is in the ground truth
    * `false match`: a best prediction that is not
    * `not first`: a ground-truth pair in the report, with a lower score than the best of its query
    * `missed`: a ground-truth pair that is not in the report

    `kind` is what the dataset says about the query. Best predictions come first, score descending, then the others;
    ties by query_id, reference_id. Only local files can be shown: pairs with another image are left out and counted.
    Raises NdecError when none is left.
    """
    uris = [
        [dataset.resolve(uri) for uri in table["uri"].to_pylist()] for table in (dataset.queries, dataset.references)
    ]
    paths = [[_local(uri) for uri in side] for side in uris]
    samples: list[dict[str, Any]] = []
    hidden = 0
    for query, reference, outcome, score in _pairs(dataset, predictions):
        files = paths[0][query], paths[1][reference]
        ids = dataset.query_ids[query], dataset.reference_ids[reference]
        if None in files:
            hidden += 1
            continue
        group = hashlib.sha256("\x1f".join(ids).encode()).hexdigest()[:24]
        samples += [
            {
                "filepath": file,
                "tags": [],
                "group": {"_id": {"$oid": group}, "_cls": "Group", "name": side},
                "image_id": image,
                "query_id": ids[0],
                "reference_id": ids[1],
                "score": score,
                "outcome": {"_cls": "Classification", "tags": [], "label": outcome},
                "kind": {"_cls": "Classification", "tags": [], "label": dataset.kinds[query]},
            }
            for side, file, image in zip(SLICES, files, ids, strict=True)
        ]
    if hidden:
        text = f"{number_of(hidden, 'pair')} left out: FiftyOne shows local files only, and their images are elsewhere"
        if not samples:
            raise NdecError(
                f"{text} (first: {uris[0][0]}); evaluate a dataset that was exported with --materialize folder"
            )
        say(text)
    return write_json(
        path,
        {
            "name": name,
            "media_type": "group",
            "group_field": "group",
            "group_media_types": dict.fromkeys(SLICES, "image"),
            "default_group_slice": "query",
            "sample_fields": SAMPLE_FIELDS,
            "info": {"labels_by": dataset.labels_by, "protocol": predictions.protocol, "pairs_left_out": hidden},
            "samples": samples,
        },
    )


def _pairs(dataset: Dataset, predictions: Predictions) -> list[tuple[int, int, str, float | None]]:
    count = len(dataset.references)
    scores = dict(zip(predictions.pairs(count).tolist(), predictions.scores.tolist(), strict=True))
    best = predictions.best_of_queries()
    numbers, matches = best.pairs(count), dataset.is_match(best)
    order = np.lexsort((numbers, -best.scores))
    pairs = [
        (*divmod(int(numbers[row]), count), "match" if matches[row] else "false match", float(best.scores[row]))
        for row in order
    ]
    rest = sorted(set(dataset.truth.tolist()) - set(numbers.tolist()))
    return pairs + [
        (*divmod(pair, count), "not first" if pair in scores else "missed", scores.get(pair)) for pair in rest
    ]


def _local(uri: str) -> str | None:
    """The absolute path of a file of its own; None for a web address or a part of an archive.

    FiftyOne shortens `..` in a path as text, which leads elsewhere behind a symbolic link. So the folder is resolved.
    """
    if "://" in uri or parse_address(uri) is not None:
        return None
    path = Path(uri)
    return str(path.parent.resolve() / path.name)
