"""All parsers of outside bytes, each with valid inputs that are then damaged. Lists of names are in fuzz_lists.py."""

from __future__ import annotations

import dataclasses
import json
import random
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from faults import fuzz_seeds, zoo_archives, zoo_pictures
from faults.fuzz_lists import list_targets
from faults.fuzz_target import Target, Work, of_file
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import SCHEMA_VERSION


def _found(kind: str, role: str, name: str) -> Work:
    """The listing of a source, as `ndec ingest` makes it, then opens every image in it."""
    import importlib

    from ndec_builder.core.workspace import Workspace
    from ndec_builder.sources.ingest import _MODULES
    from ndec_builder.sources.inspect_images import read_facts
    from ndec_builder.sources.settings import IngestConfig

    module = importlib.import_module(f"ndec_builder.sources.readers.{_MODULES[kind]}")

    def read(path: Path) -> None:
        if path.suffix == ".arrow":
            path.with_name("state.json").write_text('{"_data_files": [{"filename": "x.arrow"}]}')
        source = path.parent if kind in ("hf", "folder") else path
        workspace = Workspace(path.parent / "bench")
        found = module.find(IngestConfig(workspace.root, role, source, kind=kind), workspace)
        for listing in found.listings.values():
            for row in listing.images.slice(0, 4).to_pylist():
                if "://" not in row["uri"]:
                    read_facts(workspace.resolve(row["uri"]), "decode", 1_000_000)

    return of_file(name, read)


def _unpack(data: bytes, folder: Path) -> None:
    """A package of the registries: whatever is in it stays below its folder."""
    from ndec_builder.demo.corpus.packages import unpack_archive

    outer = folder / "outer"
    (outer / "in").mkdir(parents=True)
    path = folder / ("p.whl" if data[:2] == b"PK" else "p.tar.gz")
    path.write_bytes(data)
    try:
        unpack_archive(path, outer / "in")
    finally:
        assert [entry.name for entry in outer.iterdir()] == ["in"], "something was written outside"


def _settings(path: Path) -> None:
    from ndec_builder.commands import COMMANDS
    from ndec_builder.core.config import build, read_settings

    values = read_settings(path)
    for command in COMMANDS.values():
        build_class = command.config_class()
        missing = dataclasses.MISSING
        needed = [f for f in dataclasses.fields(build_class) if f.default is missing and f.default_factory is missing]
        fixed = {f.name: Path("x") if "Path" in str(f.type) else 1 if f.type == "int" else "x" for f in needed}
        build(build_class, command.section, values, **fixed)


def _read_manifest(path: Path) -> None:
    from ndec_builder.manifests.read import open_manifest

    manifest = open_manifest(path.parent)
    for name in ("queries", "references", "ground_truth"):
        manifest.table(name)


def _answers(data: bytes, folder: Path) -> None:
    """Annotations as Label Studio's API gives them; somebody may have written anything through it."""
    from ndec_builder.annotation.label_studio.annotations import chosen_label

    value = json.loads(data)
    chosen_label(value if isinstance(value, list) else [value])


def _image_request(data: bytes, folder: Path) -> None:
    """A request to the image server: an answer or a closed connection, and never a file that is no picture."""
    import socket

    from ndec_builder.annotation.web.image_server import ImageServer
    from ndec_builder.core.workspace import Workspace

    with ImageServer(Workspace(folder), 0) as server:
        port = int(urlsplit(server.url).port or 0)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(data + b"\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(65_536)
        assert b"root:" not in answer and not answer.startswith(b"HTTP/1.1 500"), answer[:80]


def targets() -> Iterator[Target]:
    """All of them. Imports what they need."""
    from ndec_builder.core import addresses, decode
    from ndec_builder.core.storage import read_table
    from ndec_builder.demo.corpus.qt_resources import read_rcc
    from ndec_builder.embeddings import ingest_descriptors as taken_over
    from ndec_builder.embeddings.backbones.weights import read_checkpoint
    from ndec_builder.embeddings.whitening import Whitening
    from ndec_builder.evaluation.detectors.descriptors import read_descriptor_files
    from ndec_builder.manifests.polite_http import retry_after
    from ndec_builder.training.checkpoint import read_card

    def files() -> list[bytes]:
        return [data for _, data in zoo_pictures.sound(0).values()]

    manifest = (
        f'{{"schema_version": "{SCHEMA_VERSION}", "name": "x", "version": "1.0.0", "files": {{}}, "counts": {{}}}}'
    )
    answer = '{"from_name": "verdict", "to_name": "query", "value": {"choices": ["unsure"]}}'
    yield Target(
        "pictures (core/decode)", files, lambda data, _: decode.decode(data, max_pixels=10**6), (decode.DecodeError,)
    )
    yield Target(
        "picture headers (core/decode)", files, lambda data, _: decode.read_header(data), (decode.DecodeError,)
    )
    yield Target(
        "tar (sources/tars)",
        lambda: [d for _, n, d in zoo_archives.tars(random.Random(0)) if "cut" not in n][:30],
        _found("tar", "pool", "x.tar"),
    )
    yield Target(
        "zip (sources/zips, disc21)",
        lambda: [d for _, n, d in zoo_archives.zips(random.Random(0)) if len(d) < 10**5][:20],
        _found("disc21", "reference", "x.zip"),
    )
    yield Target(
        "deflate (core/addresses)",
        lambda: [b"\x4b\x04\x00", b"\xcb\x48\xcd\xc9\xc9\x07\x00"],
        lambda data, _: addresses.inflate(data),
        (OSError,),
    )
    yield Target(
        "addresses (core/addresses)",
        fuzz_seeds.texts("a.tar#bytes=1-9", "b.zip#bytes=0-3&deflate", "c#cell=1/2/d.e"),
        lambda data, _: addresses.parse_address(data.decode("utf-8", "replace")),
        (),
    )
    yield Target("parquet of images (sources/parquets)", fuzz_seeds.parquet, _found("parquet", "pool", "x.parquet"))
    yield Target("Arrow files (sources/huggingface)", fuzz_seeds.arrow, _found("hf", "pool", "x.arrow"))
    yield Target("tables (core/storage)", fuzz_seeds.parquet, of_file("x.parquet", read_table))
    for ending, seeds in (
        ("csv", fuzz_seeds.texts("file_name,author\na.jpg,me\n")),
        ("jsonl", fuzz_seeds.texts('{"file_name": "a.jpg", "rotation": 90}\n')),
    ):
        yield Target(f"metadata.{ending} (sources/huggingface)", seeds, _found("hf", "pool", f"metadata.{ending}"))
    yield from list_targets()
    yield Target(
        "descriptors HDF5 (evaluation/descriptors)",
        fuzz_seeds.hdf5,
        of_file("x.h5", lambda p: read_descriptor_files([p], fuzz_seeds.IDS, fuzz_seeds.IDS)),
    )
    yield Target(
        "descriptors HDF5 (embeddings/descriptors)",
        fuzz_seeds.hdf5,
        of_file("x.h5", lambda p: taken_over.read_role_descriptors(p, "query")),
    )
    yield Target(
        "weights pickle (backbones/state)", lambda: fuzz_seeds.weights()[:2], of_file("x.pth", read_checkpoint)
    )
    yield Target(
        "weights safetensors (backbones/state)",
        lambda: fuzz_seeds.weights()[2:],
        of_file("x.safetensors", read_checkpoint),
    )
    yield Target("whitening npz (embeddings/whitening)", fuzz_seeds.npz, of_file("x.npz", Whitening.load))
    yield Target("manifest.json (manifests/read)", fuzz_seeds.texts(manifest), of_file("manifest.json", _read_manifest))
    yield Target(
        "checkpoint.json (training/checkpoint)",
        fuzz_seeds.texts('{"version": 1, "weights_sha256": "00"}'),
        _card(read_card),
    )
    yield Target(
        "ndec.toml (core/config)",
        fuzz_seeds.texts("[embed]\ndim = 8\n", '[annotate.push]\nannotators = ["a"]\n', "[mine]\ntop = 3.5\n"),
        of_file("ndec.toml", _settings),
    )
    yield Target("Qt resources (sources/rcc)", fuzz_seeds.rcc, of_file("x.rcc", lambda path: list(read_rcc(path))))
    yield Target(
        "packages (sources/packages)",
        fuzz_seeds.packed,
        _unpack,
        (NdecError, OSError, EOFError, ValueError, RuntimeError, zlib.error, tarfile.TarError, zipfile.BadZipFile),
    )
    yield Target(
        "answers of Label Studio (annotation/answers)",
        fuzz_seeds.texts(f"[{answer}]"),
        _answers,
        (ValueError, RecursionError),
    )
    yield Target(
        "Retry-After (manifests/http)",
        fuzz_seeds.texts("3", "Wed, 21 Oct 2026 07:28:00 GMT"),
        lambda data, _: retry_after(data.decode("latin-1")),
        (),
    )
    yield Target(
        "requests (annotation/image_server)",
        fuzz_seeds.texts(
            "GET /image/pool/a HTTP/1.1\r\nHost: localhost",
            "GET /examples/..%2f..%2fetc%2fpasswd HTTP/1.0",
            "HEAD /pair/0123456789abcdef/query HTTP/1.1\r\nHost: 127.0.0.1",
            "GET /pair/0123456789abcdef/flip.webp HTTP/1.1\r\nHost: 127.0.0.1",
        ),
        _image_request,
        (OSError,),
    )


def _card(read_card: Callable[[Path], Any]) -> Work:
    def work(data: bytes, folder: Path) -> object:
        (folder / "checkpoint.safetensors").write_bytes(fuzz_seeds.weights()[2])
        (folder / "checkpoint.json").write_bytes(data)
        return read_card(folder)

    return work
