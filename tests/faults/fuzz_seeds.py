"""Valid inputs of the parsers that are fuzzed."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from faults import zoo_archives

IDS = ["a", "b", "c"]


def _tables() -> list[Any]:
    """Tables of images in the types that Arrow has for bytes, text and lists."""
    import pyarrow as pa

    picture = zoo_archives.picture(5)
    text = base64.b64encode(picture).decode()
    return [
        pa.table({"image_id": IDS, "image": [{"bytes": picture, "path": f"{name}.jpg"} for name in IDS]}),
        pa.table({"id": IDS, "jpg": [picture] * 3, "author": IDS, "rotation": [0, 90, 180]}),
        pa.table({"path": ["a.jpg", "b.jpg", "../c.jpg"], "license": IDS}),
        pa.table({"image": [text] * 3, "key": IDS, "status": IDS, "error_message": IDS}),
        pa.table({"images": [[{"bytes": picture}], [], None], "exif": ['{"Image Orientation": "Rotated 90 CW"}'] * 3}),
        pa.table({"image": pa.array([list(picture)] * 3, pa.list_(pa.uint8()))}),
        pa.table({"image": pa.array([picture] * 3).dictionary_encode()}),
        pa.table({"image": pa.array([picture, b"short", None], pa.binary_view())}),
    ]


def arrow() -> list[bytes]:
    """The same tables as streams, which is what `save_to_disk` writes."""
    import pyarrow as pa

    out = []
    for table in _tables():
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        out.append(sink.getvalue())
    return out


def parquet() -> list[bytes]:
    import pyarrow.parquet as pq

    out = []
    for table in _tables():
        sink = io.BytesIO()
        pq.write_table(table, sink)
        out.append(sink.getvalue())
    return out


def pairs() -> list[bytes]:
    """Parquet with pairs of ids: text, and numbers with a score."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = []
    for columns in (
        {"query_id": ["a", "b"], "reference_id": ["b", None]},
        {"a": [1, 2], "b": [3, 4], "score": [0.5, None]},
    ):
        sink = io.BytesIO()
        pq.write_table(pa.table(columns), sink)
        out.append(sink.getvalue())
    return out


def hdf5() -> list[bytes]:
    import h5py

    out = []
    vectors, names = np.eye(3, 8, dtype=np.float32), np.array([b"a", b"b", b"c"])
    for arrays in (
        {"vectors": vectors, "image_names": names},
        {"query": vectors, "reference": vectors, "query_ids": names, "reference_ids": names},
    ):
        sink = io.BytesIO()
        with h5py.File(sink, "w") as file:
            for name, value in arrays.items():
                file[name] = value
        out.append(sink.getvalue())
    return out


def weights() -> list[bytes]:
    import torch
    from safetensors.torch import save

    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(3)}
    new, old = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": state}, new)
    torch.save(state, old, _use_new_zipfile_serialization=False)
    return [new.getvalue(), old.getvalue(), save(state)]


def npz() -> list[bytes]:
    from ndec_builder.embeddings.whitening import Whitening

    out = io.BytesIO()
    fitted = Whitening.fit(np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32), 4)
    np.savez(out, **{name: value for name, value in vars(fitted).items() if isinstance(value, np.ndarray)})
    return [out.getvalue()]


def packed() -> list[bytes]:
    tar, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        zoo_archives.put(archive, "x/a.jpg", zoo_archives.picture(1))
        zoo_archives.put(archive, "../copyright", b"licence")
    with zipfile.ZipFile(packed, "w") as whole:
        whole.writestr("x/a.jpg", zoo_archives.picture(1))
        whole.writestr("../../METADATA", "licence")
    return [gzip.compress(tar.getvalue()), packed.getvalue()]


def texts(*names: str) -> Callable[[], list[bytes]]:
    return lambda: [name.encode() for name in names]


def rcc() -> list[bytes]:
    import struct

    name = struct.pack(">HI", 5, 0) + "a.jpg".encode("utf-16-be")
    tree = struct.pack(">IHIIQ", 0, 2, 1, 1, 0) + struct.pack(">IHIIQ", 0, 0, 0, 0, 0)
    data = struct.pack(">I", 4) + b"data"
    head = b"qres" + struct.pack(">IIII", 2, 20, 20 + len(tree), 20 + len(tree) + len(data))
    return [head + tree + data + name]
