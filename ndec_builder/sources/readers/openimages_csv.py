"""The OpenImages metadata csv: nine million rows, streamed and sorted on disk with one bucket in memory.

    ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,
    Thumbnail300KURL,Rotation        a picture is {train,validation,test}/<ImageID>.jpg

`Rotation` is counterclockwise in the csv and clockwise in the images table. Empty means unknown and becomes 0.
"""

from __future__ import annotations

import csv
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pa_csv

from ndec_builder.core.access.references import ESCAPES_FOLDER
from ndec_builder.core.console import number_of, progress
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import REJECTS, table_of
from ndec_builder.core.storage import GROUP_ROWS, sha256_file, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.inspect_images import write_images
from ndec_builder.sources.listing import complete, name_all
from ndec_builder.sources.metadata import NAMES, QUARTER_TURNS
from ndec_builder.sources.settings import IngestConfig

_SUBSETS = ("train", "validation", "test")
_OURS = {names[1]: column for column, names in NAMES.items() if names[1][0].isupper()}  # e.g. License → license
CSV_COLUMNS = ("ImageID", "Subset", *_OURS, "Rotation")
_BLOCK = 16 << 20  # bytes of csv parsed at once


def is_bare(config: IngestConfig) -> bool:
    """Whether the source is only a csv and no image should be opened."""
    return str(config.source).lower().endswith(".csv") and config.look in ("auto", "list")


def stream(config: IngestConfig, workspace: Workspace, coming: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Write the images table to `coming` from a csv alone; return counts and inputs for the run record.

    Rows go to one spool file per first character of the id, and each spool file is sorted. Raises UsageError for
    options that need opened images or all ids in memory, and NdecError for missing columns, wrong quotes, repeated ids
    and rotations that are not multiples of 90.
    """
    if config.add or config.verify_md5 or config.ground_truth is not None:
        raise UsageError(
            "a csv alone is only listed: leave out --add, --ground-truth and --verify-md5, or open the images with "
            "--look decode"
        )
    path, target = Path(config.source), workspace.images(config.role)
    base = images_base(config, workspace)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".ingest-{config.role}-", dir=target.parent) as folder:
        spools = _spool(path, Path(folder))
        bad: list[dict[str, str]] = []
        tables = (_without_paths(table, base, bad) for table in _sorted(spools, path))
        rows = write_images(coming, (_convert(table, base, config) for table in tables if table.num_rows))
    write_table(target.with_name(f"{config.role}-rejects.parquet"), table_of(REJECTS, bad))
    return {"images": rows, "rejects": len(bad), "ground_truth": 0}, {path.name: sha256_file(path)}


def _without_paths(table: pa.Table, base: str, bad: list[dict[str, str]]) -> pa.Table:
    """The rows whose id is a file name. Others are added to `bad`: a csv must not choose which other files are read."""
    paths = pc.match_substring_regex(table["ImageID"], r"[/\\]|^\.\.?$")
    for image_id in table.filter(paths)["ImageID"].to_pylist():
        bad.append({"image_id": image_id, "uri": f"{base}/{image_id}.jpg", "reason": ESCAPES_FOLDER})
    return table.filter(pc.invert(paths))


def images_base(config: IngestConfig, workspace: Workspace) -> str:
    """The uri that contains train, validation and test: --images, else the folder of the csv if it has them."""
    if config.images:
        return config.images.rstrip("/") if "://" in config.images else workspace.uri_of(Path(config.images))
    folder = Path(config.source).parent
    if not any((folder / subset).is_dir() for subset in _SUBSETS):
        raise UsageError(
            f"{config.source} names images but not their place: none of the folders {', '.join(_SUBSETS)} is next to "
            "it; give --images with the folder or URI that holds them (this downloads nothing)"
        )
    return workspace.uri_of(folder)


def read_batches(path: Path, columns: Sequence[str] = CSV_COLUMNS) -> Iterator[pa.Table]:
    """Yield the rows in file order, all columns as text, empty values as null. Accepts BOM and CRLF.

    Raises UsageError for a file that is missing or empty, NdecError naming all missing columns or the broken row.
    """
    _check_header(path, columns)
    convert = pa_csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()), include_columns=list(columns), null_values=[""],
        strings_can_be_null=True, quoted_strings_can_be_null=True,
    )  # fmt: skip
    read = pa_csv.ReadOptions(block_size=_BLOCK)
    parse = pa_csv.ParseOptions(newlines_in_values=True)
    try:
        with progress() as bar, pa.OSFile(str(path)) as file:
            task = bar.add_task(f"reading {path.name} (bytes)", total=file.size())
            with pa_csv.open_csv(file, read, parse, convert) as reader:
                for batch in reader:
                    bar.update(task, completed=file.tell())
                    yield pa.table(batch)
    except pa.ArrowException as error:
        raise NdecError(
            f"{path} is not valid csv: {str(error)[:300]}; put text with commas in quotes and double a quote inside it"
        ) from None


def _check_header(path: Path, columns: Sequence[str]) -> None:
    if not path.is_file():
        raise UsageError(
            f"the metadata {path} is not a file; give the OpenImages csv with the columns {', '.join(CSV_COLUMNS)}"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
            empty = not file.readline().strip()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not csv: it is not UTF-8 text") from None
    if missing := [name for name in columns if name not in header]:
        raise NdecError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(header) or 'nothing'}. Give the csv of "
            "OpenImages that lists images with licence and rotation"
        )
    if empty:
        raise UsageError(f"{path} has a header but no rows; is the download complete?")


def _spool(path: Path, folder: Path) -> list[Path]:
    """Write the rows into one file per first character of the id; return the files ascending."""
    writers: dict[str, Any] = {}
    try:
        for table in read_batches(path):
            table = table.take(pc.sort_indices(table, [("ImageID", "ascending")]))
            if table["ImageID"].null_count:
                raise NdecError(
                    f"{path} has {number_of(table['ImageID'].null_count, 'row')} without an ImageID; remove or "
                    "complete them"
                )
            firsts = pc.utf8_slice_codeunits(table["ImageID"], 0, 1).combine_chunks().dictionary_encode()
            codes = firsts.indices.to_numpy()
            starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
            for start, stop in itertools.pairwise(starts):
                letter = firsts.dictionary[int(codes[start])].as_py()
                if letter not in writers:
                    options = pa.ipc.IpcWriteOptions(compression="lz4")
                    name = folder / f"{letter.encode().hex()}.arrow"
                    writers[letter] = pa.ipc.new_stream(str(name), table.schema, options=options)
                writers[letter].write_table(table.slice(start, stop - start))
    finally:
        for writer in writers.values():
            writer.close()
    return [folder / f"{letter.encode().hex()}.arrow" for letter in sorted(writers)]


def _sorted(spools: list[Path], path: Path) -> Iterator[pa.Table]:
    """Yield the rows of the spools ascending by id. Raises NdecError naming ids that appear twice."""
    for spool in spools:
        with pa.OSFile(str(spool)) as file, pa.ipc.open_stream(file) as reader:
            table = reader.read_all()
        spool.unlink()
        table = table.take(pc.sort_indices(table, [("ImageID", "ascending")]))
        ids = table["ImageID"]
        same = pc.equal(ids.slice(1), ids.slice(0, max(0, len(ids) - 1)))
        if twice := ids.slice(1).filter(same).to_pylist():
            raise NdecError(
                f"{path}: {name_all(twice, 'id appears twice', 'ids appear twice')}; keep one row per image"
            )
        yield from (table.slice(start, GROUP_ROWS) for start in range(0, table.num_rows, GROUP_ROWS))


def _convert(table: pa.Table, base: str, config: IngestConfig) -> pa.Table:
    """Convert csv rows to rows of the images table, without opening the images."""
    uris = pc.binary_join_element_wise(
        base, table["Subset"], pc.binary_join_element_wise(table["ImageID"], "jpg", "."), "/"
    )
    if uris.null_count or not pc.all(pc.is_in(table["Subset"], value_set=pa.array(_SUBSETS))).as_py():
        known = pc.is_in(table["Subset"], value_set=pa.array(_SUBSETS))
        odd = table.filter(pc.invert(known))
        raise NdecError(
            f"{number_of(odd.num_rows, 'image has', 'images have')} a Subset other than {', '.join(_SUBSETS)}, e.g. "
            f"{odd['ImageID'][0].as_py()}: "
            f"{odd['Subset'][0].as_py()!r}; fix the column Subset"
        )
    return complete(convert_metadata(table, config).append_column("uri", uris), config.role)


def convert_metadata(table: pa.Table, config: IngestConfig) -> pa.Table:
    """image_id, rotation, licence columns and group from rows of the csv. Raises NdecError for an invalid Rotation."""
    columns = {"image_id": table["ImageID"], "rotation": clockwise(table)}
    columns |= {ours: table[theirs] for theirs, ours in _OURS.items()}
    if config.license:
        columns["license"] = pc.coalesce(columns["license"], config.license)
    group = {
        "none": table["ImageID"],
        "image": table["ImageID"],
        "folder": table["Subset"],
    }.get(config.group_by)
    if group is None:  # photos by one author resemble each other
        group = pc.coalesce(table["AuthorProfileURL"], table["Author"], table["ImageID"])
    return pa.table({**columns, "group": group})


def clockwise(table: pa.Table) -> pa.ChunkedArray:
    """Clockwise quarter turns, int32, from the counterclockwise Rotation: a float, an integer or empty."""
    text = table["Rotation"]
    turns = pc.index_in(text, value_set=pa.array([form for turn in QUARTER_TURNS for form in (f"{turn}.0", str(turn))]))
    odd = pc.and_(pc.is_null(turns), pc.is_valid(text))
    odd = pc.and_(odd, pc.not_equal(pc.utf8_lower(pc.coalesce(text, "")), "nan"))
    if pc.any(odd).as_py():
        row = table.filter(odd).slice(0, 1).to_pylist()[0]
        raise NdecError(
            f"the Rotation of {row['ImageID']} is {row['Rotation']!r}; expected one of {QUARTER_TURNS} or nothing: fix "
            "the csv"
        )
    degrees = pa.array([(360 - turn) % 360 for turn in QUARTER_TURNS for _ in range(2)], pa.int32())
    return pc.fill_null(degrees.take(turns), 0)
