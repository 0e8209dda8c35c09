#!/usr/bin/env bash
# mlcroissant: in a FileSet, *.jpg also matches pictures in folders, and **/*.jpg does not match those at the top
#
# Expected: As in pathlib, fsspec and shells: *.jpg matches the top level only, **/*.jpg matches
# every level.
#
# What happens: The pattern is applied to the full path with fnmatch: * crosses slashes, and
# **/*.jpg needs a slash. With **/*.jpg all pictures at the top of an archive are missing from the
# records; with *.jpg pictures of subfolders that should be left out are there. Neither is reported.
# The names arrive as bytes although their type is sc:Text, so they equal no str.
#
# Exit code 0: as described here. Anything else: it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check mlcroissant==1.1.1

venv/bin/python - <<'EOF'
import hashlib
import json
import tarfile
from importlib.metadata import version
from pathlib import Path

import mlcroissant as mlc
from absl import logging

logging.set_verbosity(logging.ERROR)  # not the recommendations about missing properties
Path("sub").mkdir()
for name in ("a.jpg", "sub/b.jpg"):
    Path(name).write_bytes(b"any bytes")
with tarfile.open("pictures.tar", "w") as tar:
    tar.add("a.jpg")
    tar.add("sub/b.jpg")


def records(pattern):
    metadata = mlc.Metadata(
        name="pictures", description="two pictures", url="https://example.org", license=["CC0-1.0"],
        distribution=[
            mlc.FileObject(id="tar", name="tar", content_url="pictures.tar", encoding_formats=["application/x-tar"],
                           sha256=hashlib.sha256(Path("pictures.tar").read_bytes()).hexdigest()),
            mlc.FileSet(id="jpg", name="jpg", contained_in=["tar"], includes=[pattern],
                        encoding_formats=["image/jpeg"]),
        ],
        record_sets=[mlc.RecordSet(id="images", name="images", fields=[
            mlc.Field(id="images/path", name="path", data_types=[mlc.DataType.TEXT],
                      source=mlc.Source(file_set="jpg", extract=mlc.Extract(file_property="fullpath")))])],
    )
    Path("croissant.json").write_text(json.dumps(metadata.to_json(), default=str))
    return sorted(row["images/path"] for row in mlc.Dataset("croissant.json").records("images"))


print("mlcroissant", version("mlcroissant"))
found = {pattern: records(pattern) for pattern in ("*.jpg", "**/*.jpg")}
for pattern, paths in found.items():
    print(pattern, "->", paths)
assert found == {"*.jpg": [b"a.jpg", b"sub/b.jpg"], "**/*.jpg": [b"sub/b.jpg"]}
EOF
