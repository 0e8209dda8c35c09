"""Pictures for a workspace in which each stage takes a second or two: from a finished demo, or drawn."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from support.pictures import textured


def take_pictures(folder: Path, demo: Path | None, *, references: int, basic: int, pool: int) -> Path:
    """Lay out folder/{reference,basic,pool}: real pictures of a demo's workspace, else drawn scenes and their crops.

    Of a demo the best mined pairs come first, so that there is something to find.
    """
    if demo is None:
        _draw(folder, references, basic, pool)
    else:
        _copy(folder, demo, references, basic, pool)
    return folder


def _copy(folder: Path, demo: Path, references: int, basic: int, pool: int) -> None:
    from ndec_builder.core.storage import read_table
    from ndec_builder.core.workspace import Workspace

    workspace = Workspace(demo)
    mined = {split: read_table(workspace.candidates(split) / "candidates.parquet") for split in ("test", "train")}
    wanted = {
        "reference": (mined["test"]["reference_id"].to_pylist(), references),
        "basic": (mined["train"]["reference_id"].to_pylist(), basic),
        "pool": (
            [i for pair in zip(*(mined[s]["query_id"].to_pylist() for s in mined), strict=False) for i in pair],
            pool,
        ),
    }
    for role, (first, count) in wanted.items():
        table = workspace.read_images(role, ["image_id", "uri"])
        uris = dict(zip(*(table[name].to_pylist() for name in ("image_id", "uri")), strict=True))
        target = folder / role
        target.mkdir(parents=True)
        for image_id in _some([*first, *uris], count):
            source = Path(workspace.resolve(uris[image_id]))
            shutil.copyfile(source, target / f"{image_id}{source.suffix}")


def _some(ids: Iterable[str], count: int) -> list[str]:
    return list(dict.fromkeys(ids))[:count]


def _draw(folder: Path, references: int, basic: int, pool: int) -> None:
    for role, count, seed in (("reference", references, 0), ("basic", basic, 10_000)):
        (folder / role).mkdir(parents=True)
        for number in range(count):
            textured(seed + number, (160, 120)).save(folder / role / f"{role}-{number:04d}.png")
    (folder / "pool").mkdir()
    for number in range(pool):  # every third is a crop of a reference, every third one of a basic image
        seed = (number // 3 % references, 10_000 + number // 3 % basic, 20_000 + number)[number % 3]
        picture = textured(seed, (160, 120))
        edge = 4 + number % 5
        picture.crop((edge, edge, 160 - edge, 120 - edge)).save(folder / "pool" / f"pool-{number:04d}.jpg", quality=90)
