"""`ndec embed`: images of one role → embeddings/<role>/<model>/, in shards, resumable."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ndec_builder.core.config import result_fields
from ndec_builder.core.console import say
from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.runs import RunRecord
from ndec_builder.core.schemas import REJECTS, table_of
from ndec_builder.core.shards import Outcome, Shard, plan, run_shards
from ndec_builder.core.storage import fingerprint, read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.model_names import RESULT_VERSION, parse
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.embeddings.space import fit_whitening, fitted_whitening, whitening_path
from ndec_builder.embeddings.store import write_part
from ndec_builder.embeddings.whitening import Whitening

if TYPE_CHECKING:
    from ndec_builder.embeddings.backbones import Backbone

_loaded: dict[tuple[str, str, str], Backbone] = {}  # one backbone per worker process, not one per shard


def run(config: EmbedConfig) -> Path:
    """Embed all images of a role and return the folder of the vectors.

    A finished run with the same images, weights and settings is left as it is and loads no model; a folder made with
    others is made again. Raises GapsError, with everything written, when more than `max_reject_share` of the images are
    unusable.
    """
    record = RunRecord("embed", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    images = workspace.read_images(config.role)
    if images.num_rows == 0:
        raise NdecError(f"there are no {config.role} images in this workspace ({workspace.root}); ingest some first")
    _check(config)
    directory = workspace.embeddings(config.role, config.model)
    whitening = (fitted_whitening(config) or fit_whitening(config)) if config.whiten else None
    space = fingerprint([parse(config.model).fingerprint(), config.bf16, whitening.fingerprint if whitening else None])
    mark = _fingerprint(config, images, space)
    if not _is_finished(directory, mark):
        _embed(config, directory, images, mark, space, whitening, record)
    _check_rejects(config, directory, images.num_rows)
    return directory


def _embed(
    config: EmbedConfig,
    directory: Path,
    images: pa.Table,
    mark: str,
    space: str,
    whitening: Whitening | None,
    record: RunRecord,
) -> None:
    (directory / "run.json").unlink(missing_ok=True)  # while it is made again it must not pass for finished
    shards = plan(images.num_rows, config.shard_size)
    work = EmbedShard(config, directory)
    counts = run_shards(
        directory, shards, work, mark, workers=config.workers, what=f"embedding {config.role} with {config.model}"
    )
    _remove_parts_beyond(directory, shards)
    rejects = [row for shard in shards for row in read_table(directory / _rejects_name(shard)).to_pylist()]
    write_table(directory / "rejects.parquet", table_of(REJECTS, rejects))
    dim = whitening.dim if whitening else counts["dim"] // len(shards)
    record.write(
        directory,
        counts={"images": images.num_rows, "embedded": counts["embedded"], "rejected": len(rejects)},
        inputs={"images": fingerprint(images["sha256"].to_pylist())},
        weights=parse(config.model).weights_sha256(),
        fingerprint=mark,
        space=space,
        parts=len(shards),
        dim=dim,
        layer="whitened" if whitening else "pooled",  # whose norms are stored
    )
    say(f"embedded {counts['embedded']} of {images.num_rows} {config.role} images, {dim}-d")


@dataclass(frozen=True)
class EmbedShard:
    """The work of one shard; picklable, so that worker processes can be handed it."""

    config: EmbedConfig
    directory: Path

    def __call__(self, shard: Shard) -> Outcome:
        from ndec_builder.embeddings.extract import extract

        config, workspace = self.config, Workspace(self.config.workspace)
        images = workspace.read_images(config.role).slice(shard.start, shard.stop - shard.start)
        extracted = extract(
            _backbone(config),
            images,
            workspace.resolve,
            batch_size=config.batch_size,
            bf16=config.bf16,
            threads=config.threads,
        )
        vectors = extracted.features
        if config.whiten:
            vectors = Whitening.load(whitening_path(config)).apply(vectors)
        files = write_part(self.directory, shard, extracted.ids, vectors)
        rejects = write_table(self.directory / _rejects_name(shard), table_of(REJECTS, extracted.rejects))
        counts = {"embedded": len(vectors), "rejected": len(extracted.rejects), "dim": vectors.shape[1]}
        return Outcome((*files, rejects.name), counts)


def _backbone(config: EmbedConfig) -> Backbone:
    from ndec_builder.embeddings.backbones import best_device, load_backbone

    device = best_device(config.device)
    key = (config.model, parse(config.model).fingerprint(), device)
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = load_backbone(config.model, device)
    return _loaded[key]


def _check(config: EmbedConfig) -> None:
    for name in ("batch_size", "shard_size", "workers", "threads", "dim", "whitening_images"):
        if getattr(config, name) < 1:
            raise UsageError(f"{name} is {getattr(config, name)}; it must be at least 1")


def _fingerprint(config: EmbedConfig, images: pa.Table, space: str) -> str:
    """What the vectors depend on: images by id, bytes and rotation, the space, and the settings that change results."""
    settings = result_fields(replace(config, model=""))  # the model counts by its weights, which are in `space`
    columns = [images[name].to_pylist() for name in ("image_id", "sha256", "rotation")]
    return fingerprint([RESULT_VERSION, settings, columns, space])


def _is_finished(directory: Path, mark: str) -> bool:
    path = directory / "run.json"
    if not path.is_file():
        return False
    run: dict[str, Any] = read_json(path)
    names = [f"part-{index:05d}{suffix}" for index in range(run.get("parts", 0)) for suffix in (".npy", ".parquet")]
    return run.get("fingerprint") == mark and all((directory / name).is_file() for name in [*names, "rejects.parquet"])


def _check_rejects(config: EmbedConfig, directory: Path, count: int) -> None:
    rejects = read_table(directory / "rejects.parquet")
    if rejects.num_rows <= config.max_reject_share * count:
        return
    reasons = Counter(rejects["reason"].to_pylist()).most_common(3)
    raise GapsError(
        f"{rejects.num_rows} of {count} {config.role} images could not be embedded, more than max_reject_share = "
        f"{config.max_reject_share:g} allows: {'; '.join(f'{number}× {reason}' for reason, number in reasons)}. Each "
        f"is a row of {directory / 'rejects.parquet'}; the vectors of the others are written. Mend the files, "
        "ingest them again and run the same command"
    )


def _remove_parts_beyond(directory: Path, shards: list[Shard]) -> None:
    """Remove what an earlier run with more shards left behind."""
    names = {shard.name for shard in shards} | {_rejects_name(shard).removesuffix(".parquet") for shard in shards}
    for pattern in ("part-*", "rejects-*"):
        for path in directory.glob(pattern):
            if path.name.split(".")[0] not in names:
                path.unlink()


def _rejects_name(shard: Shard) -> str:
    return f"rejects-{shard.index:05d}.parquet"
