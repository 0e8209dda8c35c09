"""Read a file of `ndec export-results --format fiftyone` with the real FiftyOne.

    PYTHON-OF-FIFTYONE benchmarks/fiftyone_reads.py FILE

FiftyOne needs a MongoDB server for datasets. Without one this reads the parts of the file that FiftyOne can read: the
types of all fields, and every sample with its labels and its group. With `--database` it loads the dataset.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path


def main(file: Path, database: bool) -> None:
    import fiftyone as fo
    import fiftyone.core.odm as odm

    value = json.loads(file.read_text())
    types = {name: odm.get_field_kwargs(text)["ftype"].__name__ for name, text in value["sample_fields"].items()}
    samples = [fo.Sample.from_dict(entry) for entry in value["samples"]]
    for sample, entry in zip(samples, value["samples"], strict=True):
        assert sample["outcome"].label == entry["outcome"]["label"] and sample["group"].name == entry["group"]["name"]
        assert sample["group"].id == entry["group"]["_id"]["$oid"] and sample["score"] == entry["score"]
        assert set(entry) == set(types)
    print(f"fiftyone {version('fiftyone')}: {len(samples)} samples, fields {types}")
    if database:
        dataset = fo.Dataset.from_json(str(file))
        print(dataset.count_values("outcome.label"), len(dataset))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--database" in sys.argv)
