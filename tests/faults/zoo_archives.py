"""Hostile tars, zips, tables and weights as bytes: path traversal, links, devices, bombs, false headers, code."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from support.pictures import scene

Files = Iterator[tuple[str, str, bytes]]  # (kind of hostility, file name, content)
CLIMBING = ("../evil.jpg", "../../../../evil.jpg", "/evil.jpg", "a/../../evil.jpg", "..\\evil.jpg", "C:\\evil.jpg",
            "//host/share/evil.jpg", "./../evil.jpg", "a/./../../evil.jpg")  # fmt: skip
PAYLOADS = (
    '=HYPERLINK("http://127.0.0.1:1/?"&A1,"see")', "=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1+1)", "\t=1+1",
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'; DROP TABLE images; --", "{{7*7}}", "${7*7}",
    "</td></tr></table><script>alert(1)</script>", "javascript:alert(1)", "[x](javascript:alert(1))", "| a | b |",
    "---\nlicense: mine\n---", "\u202egnp.exe", "a\x00b", "line\nbreak", "%s%n%x", "\ufeffbom",
)  # fmt: skip


def picture(seed: int) -> bytes:
    out = io.BytesIO()
    scene(seed, (64, 48)).save(out, "JPEG")
    return out.getvalue()


def tar_of(add: Callable[[tarfile.TarFile], None], **options: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as tar:  # type: ignore[call-overload]
        add(tar)
    return out.getvalue()


def put(tar: tarfile.TarFile, name: str, data: bytes, **header: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in header.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(data))


def _damaged(kind: str, whole: bytes, chance: random.Random) -> Iterator[tuple[str, str, bytes]]:
    for number in range(24):
        yield f"{kind} that is cut", f"cut-{number}.{kind}", whole[: chance.randrange(1, len(whole))]
        changed = bytearray(whole)
        for _ in range(6):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        yield f"{kind} with bits flipped", f"flip-{number}.{kind}", bytes(changed)


def tars(chance: random.Random) -> Files:
    good = picture(1)
    for number, name in enumerate(CLIMBING):

        def climb(tar: tarfile.TarFile, name: str = name) -> None:
            put(tar, "good.jpg", good)
            put(tar, name, good)

        yield "tar member that climbs out", f"climb-{number}.tar", tar_of(climb)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        for target in ("/etc/passwd", "../../secret.jpg", "good.jpg"):

            def link(tar: tarfile.TarFile, kind: bytes = kind, target: str = target) -> None:
                put(tar, "good.jpg", good)
                put(tar, "odd.jpg", b"", type=kind, linkname=target, devmajor=1, devminor=5)

            yield "tar link or device", f"link-{kind[0]}-{len(target)}.tar", tar_of(link)

    def huge_claim(tar: tarfile.TarFile) -> None:
        put(tar, "good.jpg", good)
        put(tar, "bad.jpg", good)

    whole = tar_of(huge_claim)
    yield from _damaged("tar", whole, chance)
    for size in (b"77777777777\0", b"\x80" + b"\xff" * 11, b"-0000000001\0", b"zzzzzzzzzzz\0"):
        header = bytearray(whole[:512])
        header[124:136] = size
        header[148:156] = b"%06o\0 " % sum(header[:148] + b" " * 8 + header[156:])
        yield "tar member of a false size", f"size-{size[0]}-{size[1]}.tar", bytes(header) + whole[512:]
    for number, text in enumerate(PAYLOADS):

        def write(tar: tarfile.TarFile, text: str = text) -> None:
            put(tar, "one.jpg", good)
            facts = dict.fromkeys(("author", "title", "license", "original_url", "group"), text)
            put(tar, "one.json", json.dumps(facts).encode())

        yield "injection through metadata", f"told-{number}.tar", tar_of(write)
    for text in (
        b"[" * 200_000,
        b'{"rotation": 45}',
        b'{"rotation": "nan"}',
        b"\xff\xfe",
        b'{"a": 1e999999}',
        b"{}" * 9,
    ):

        def odd(tar: tarfile.TarFile, text: bytes = text) -> None:
            put(tar, "one.jpg", good)
            put(tar, "one.json", text)

        yield "odd metadata", f"meta-{len(text)}.tar", tar_of(odd)

    def pax(tar: tarfile.TarFile) -> None:
        put(tar, "one.jpg", good, pax_headers={"path": "../../evil.jpg", "size": "99999999999999"})

    yield "tar pax headers", "pax.tar", tar_of(pax, format=tarfile.PAX_FORMAT)

    def many(tar: tarfile.TarFile) -> None:
        for number in range(3_000):
            put(tar, f"{number}.jpg", b"")

    yield "tar of many empty members", "many.tar", tar_of(many)


def zips(chance: random.Random) -> Files:
    good = picture(2)

    def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for name, data in members:
                archive.writestr(name, data)
        return out.getvalue()

    for number, name in enumerate(CLIMBING):
        yield "zip member that climbs out", f"climb-{number}.zip", zipped([("R000001.jpg", good), (name, good)])
    link = io.BytesIO()
    with zipfile.ZipFile(link, "w") as archive:
        info = zipfile.ZipInfo("R000007.jpg")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    yield "zip link", "link.zip", link.getvalue()
    yield "zip bomb", "bomb.zip", zipped([("R000001.jpg", bytes(300_000_000))])
    nested = zipped([("R000001.jpg", zipped([("R000002.jpg", bytes(9_000_000))]))])
    yield "zip in a zip", "nested.zip", nested
    whole = zipped([("R000001.jpg", good), ("R000002.jpg", picture(3))])
    yield from _damaged("zip", whole, chance)
    at = whole.rfind(b"PK\x01\x02")
    for field, value in ((20, 0xFFFFFFF0), (24, 0xFFFFFFF0), (42, 0xFFFFFFF0), (42, 3)):
        changed = bytearray(whole)
        struct.pack_into("<I", changed, at + field, value)
        yield "zip directory that lies", f"lie-{field}-{value % 97}.zip", bytes(changed)
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield "zip packed otherwise", f"method-{method}.zip", zipped([("R000001.jpg", good)], method)


class Code:
    """Unpickled, it writes the file that says that code was run."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.system, (f"touch {self.proof}",)


def weights(proof: Path) -> Files:
    """Pickles that would make the file `proof`, under every name and wrapping under which ndec reads weights."""
    import numpy as np
    import torch

    for protocol in (0, 2, 4):
        yield "pickle", f"bare-{protocol}.pth", pickle.dumps(Code(proof), protocol)
    for name, value in (
        ("state", {"state_dict": Code(proof)}),
        ("model", {"model": Code(proof)}),
        ("list", [Code(proof)]),
    ):
        out = io.BytesIO()
        torch.save(value, out)
        yield "pickle", f"{name}.pth", out.getvalue()
        out = io.BytesIO()
        torch.save(value, out, _use_new_zipfile_serialization=False)
        yield "pickle", f"{name}-old.pt", out.getvalue()
    mixed = io.BytesIO()
    torch.save({"weight": torch.zeros(2), "extra": Code(proof)}, mixed)
    yield "pickle", "mixed.bin", mixed.getvalue()
    yield "pickle", "named.safetensors", pickle.dumps(Code(proof))
    for size in (0, 3, 2**40, 2**63):
        yield "safetensors that lie", f"size-{size % 97}.safetensors", struct.pack("<Q", size) + b"{}"
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    yield "safetensors that lie", "shape.safetensors", struct.pack("<Q", len(header)) + header
    objects = np.array([Code(proof)], dtype=object)
    out = io.BytesIO()
    np.save(out, objects, allow_pickle=True)
    yield "pickle", "objects.npy", out.getvalue()
    out = io.BytesIO()
    np.savez(out, vectors=objects)
    yield "pickle", "objects.npz", out.getvalue()
    for cut in (10, 100, 300):
        yield "pickle", f"cut-{cut}.pth", mixed.getvalue()[:cut]


TEXTS = {
    "ids.csv": "query_id,reference_id\n" + "".join(f'"{p.replace(chr(34), chr(34) * 2)}",\n' for p in PAYLOADS),
    "null.csv": "query_id,reference_id\n\x00,\x00\n",
    "quotes.csv": 'query_id,reference_id\n"a,b\n',
    "wide.csv": "query_id,reference_id\n" + "a" * 300_000 + ",b\n",
    "columns.csv": "," * 50_000,
    "deep.json": "[" * 100_000,
    "deep-object.json": '{"a":' * 50_000,
    "numbers.json": '{"a": [1e999, -1e999, NaN]}',
    "twice.json": '{"a": ["b"], "a": ["c"]}',
}
