"""`ndec embed`: images of one role → embeddings/<role>/<model>/, in shards, resumable."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.config import MAX_PIXELS, limit_of, pixel_limit, result_fields, with_pixel_limit
from ndec_builder.core.console import counted_reasons, say
from ndec_builder.core.errors import GapsError, NdecError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Done, Plan, Shard, check_files, close_plans, open_plan, plans_folder
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.executor.shard_items import step
from ndec_builder.core.fingerprints import images_fingerprint
from ndec_builder.core.locks import locked, one_writer
from ndec_builder.core.pictures.errors import DecodeError
from ndec_builder.core.pictures.ingested import CANNOT_READ, CHANGED, read_image
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import REJECTS, table_of
from ndec_builder.core.storage import fingerprint, read_json, read_rows, read_table, write_json, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.engines.record import engine_name, engine_of_shards, report_fallback
from ndec_builder.embeddings.model_names import RESULT_VERSION, parse_model, refuse_same_folder
from ndec_builder.embeddings.parts import Piece, read_shard, write_part, write_parts
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.embeddings.workspace_whitening import fit_whitening, load_fitted_whitening, whitening_path

if TYPE_CHECKING:
    from ndec_builder.embeddings.backbones import Backbone

_loaded: dict[tuple[str, str, str], Backbone] = {}  # one backbone per worker process, not one per shard


_WHITENING = "whitening.npz"
SNAPSHOT = [
    "image_id",
    "uri",
    "sha256",
    "width",
    "height",
    "format",
    "rotation",
]  # the columns that reading an image needs


@with_pixel_limit
@one_writer(lambda config: Workspace(config.workspace).embeddings(config.role, config.model))
def run(config: EmbedConfig) -> Path:
    """Embed all images of a role and return the folder of the vectors.

    A finished run with the same images, weights and settings stays as it is and loads no model; anything else is
    embedded again. Raises GapsError, after writing everything, when more than `max_reject_share` of the images are
    unusable or shards were set aside; NdecError when another process is embedding the role.
    """
    record = RunRecord("embed", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    images = workspace.read_images(config.role, SNAPSHOT)
    if images.num_rows == 0:
        raise NdecError(f"there are no {config.role} images in this workspace ({workspace.root}); ingest some first")
    directory = workspace.embeddings(config.role, config.model)
    if (directory / "run.json").is_file():
        refuse_same_folder(directory, read_json(directory / "run.json"), config.model, config.role)
    whitening = _whitening(config)
    space = fingerprint(
        [parse_model(config.model).fingerprint(), config.bf16, whitening.fingerprint if whitening else None]
    )
    mark = _fingerprint(config, images, space)
    if not _is_finished(directory, mark) or _are_restored(directory, images, workspace):
        _embed(config, directory, images, mark, space, whitening, record)
    elif plans_folder(directory).is_dir():  # killed after writing the last file, before tidying up
        close_plans(directory)
    _check_rejects(config, directory, images.num_rows)
    return directory


def _whitening(config: EmbedConfig) -> Whitening | None:
    if not config.whiten:
        return None
    if (fitted := load_fitted_whitening(config)) is not None:
        return fitted
    with locked(whitening_path(config).parent, wait=True):  # two roles may be embedded at once: one of them fits
        return load_fitted_whitening(config) or fit_whitening(config)


def _embed(
    config: EmbedConfig,
    directory: Path,
    images: pa.Table,
    mark: str,
    space: str,
    whitening: Whitening | None,
    record: RunRecord,
) -> None:
    (directory / "run.json").unlink(missing_ok=True)  # an unfinished folder must not look finished
    # whole batches, so that an image is in the same batch for any shard size
    plan = Plan(images.num_rows, -(-config.shard_size // config.batch_size) * config.batch_size, mark)
    folder = open_plan(directory, plan).absolute()
    write_table(folder / "images.parquet", images)  # an ingest during the run must not change what a shard reads
    if whitening is not None:  # nor what they are whitened with
        whitening.save(folder / _WHITENING)
    work = EmbedShard(
        replace(config, workspace=config.workspace.absolute(), whiten=whitening is not None),
        folder,
    )
    _report_assumption(config)
    what = f"embedding {config.role} with {config.model}"
    results = run_shards(folder, plan, work, _engine(config), what=what, unit="images")
    used = engine_of_shards(folder, plan)
    parts = write_parts(directory, _pieces(folder, plan, results))
    rejects = [row for shard in plan.shards for row in read_table(folder / _rejects_name(shard)).to_pylist()]
    write_table(directory / "rejects.parquet", table_of(REJECTS, rejects))
    embedded = sum(done.counts["embedded"] for done in results)
    on_dark = sum(done.counts.get("on_dark", 0) for done in results)
    dim = whitening.dim if whitening else results[0].counts["dim"]
    record.write(
        directory,
        counts={"images": images.num_rows, "embedded": embedded, "rejected": len(rejects)}
        | ({"on_dark_background": on_dark} if on_dark else {}),
        inputs={"images": images_fingerprint(images)},
        weights=parse_model(config.model).weights_sha256(),
        fingerprint=mark,
        model_fingerprint=parse_model(config.model).fingerprint(),
        space=space,
        parts=parts,
        dim=dim,
        layer="whitened" if whitening else "pooled",  # the layer whose norms are stored
        **used,
    )
    close_plans(directory)
    if "fallback" in used:
        report_fallback(config.model, used["fallback"])  # the workers were silent
    say(f"embedded {embedded} of {images.num_rows} {config.role} images, {dim}-d")


def _report_assumption(config: EmbedConfig) -> None:
    from ndec_builder.embeddings.backbones.load import report_assumption

    report_assumption(config.model)


def _engine(config: EmbedConfig) -> Engine:
    gpu = config.device == "cuda" or (config.device == "auto" and Path("/dev/nvidiactl").exists())
    return Engine(
        config.engine,
        workers=config.workers or int(gpu and config.engine == "local"),
        threads=config.threads,
        gpus=config.task_gpus,
        address=config.ray_address,
    )


def _pieces(folder: Path, plan: Plan, results: list[Done]) -> Iterator[Piece]:
    for shard, done in zip(plan.shards, results, strict=True):
        check_files(folder, shard, done)
        yield read_shard(folder, shard.name)


@dataclass(frozen=True)
class EmbedShard:
    """The work of one shard; picklable, for worker processes."""

    config: EmbedConfig
    folder: Path

    def __call__(self, shard: Shard) -> Outcome:
        from ndec_builder.embeddings.extract import extract

        config = self.config
        whitening = Whitening.load(self.folder / _WHITENING) if config.whiten else None
        with limit_of(config.workspace):  # a worker on another machine has another environment
            extracted = extract(
                _backbone(config),
                read_rows(self.folder / "images.parquet", shard.start, shard.stop),
                Workspace(config.workspace).resolve,
                batch_size=config.batch_size,
                bf16=config.bf16,
                threads=config.threads,
                progress=step,
                finish=whitening.apply if whitening else None,
            )
        vectors = extracted.features
        files = write_part(self.folder, shard.name, extracted.ids, vectors)
        rejects = write_table(self.folder / _rejects_name(shard), table_of(REJECTS, extracted.rejects))
        counts = {
            "embedded": len(vectors),
            "rejected": len(extracted.rejects),
            "dim": vectors.shape[1],
            "on_dark": extracted.on_dark,
        }
        engine = write_json(self.folder / engine_name(shard), asdict(extracted.used) if extracted.used else {})
        return Outcome((*files, rejects.name, engine.name), counts)


def _backbone(config: EmbedConfig) -> Backbone:
    from ndec_builder.embeddings.backbones import best_device, load_backbone

    device = best_device(config.device)
    key = (config.model, parse_model(config.model).fingerprint(), device)
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = load_backbone(config.model, device)
    return _loaded[key]


def _fingerprint(config: EmbedConfig, images: pa.Table, space: str) -> str:
    """Everything the vectors depend on: images (id, bytes, rotation), the space, and settings that change results."""
    settings = result_fields(replace(config, model=""))  # `space` identifies the model by its weights
    limit = [] if pixel_limit() == MAX_PIXELS else [pixel_limit()]
    return fingerprint([RESULT_VERSION, settings, images_fingerprint(images), space, *limit])


def _is_finished(directory: Path, mark: str) -> bool:
    path = directory / "run.json"
    if not path.is_file():
        return False
    run: dict[str, Any] = read_json(path)
    names = [f"part-{index:05d}{suffix}" for index in range(run.get("parts", 0)) for suffix in (".npy", ".parquet")]
    return run.get("fingerprint") == mark and all((directory / name).is_file() for name in [*names, "rejects.parquet"])


def _are_restored(directory: Path, images: pa.Table, workspace: Workspace) -> bool:
    """Whether a file that was missing, or had changed since the ingest, has the ingested bytes again."""
    rejects = read_table(directory / "rejects.parquet")
    outside = pc.or_(pc.equal(rejects["reason"], CHANGED), pc.starts_with(rejects["reason"], CANNOT_READ))
    ids = rejects.filter(outside)["image_id"].combine_chunks()
    for row in images.filter(pc.is_in(images["image_id"], value_set=ids)).to_pylist():
        with contextlib.suppress(DecodeError, OSError):
            read_image(workspace.resolve(row["uri"]), row["sha256"])
            return True
    return False


def _check_rejects(config: EmbedConfig, directory: Path, count: int) -> None:
    rejects = read_table(directory / "rejects.parquet")
    if rejects.num_rows <= config.max_reject_share * count:
        return
    raise GapsError(
        f"{rejects.num_rows} of {count} {config.role} images could not be embedded, more than max_reject_share = "
        f"{config.max_reject_share:g} allows: {counted_reasons(rejects['reason'].to_pylist())}. Each "
        f"is a row of {directory / 'rejects.parquet'}; the vectors of the others are written. Fix the files, "
        "ingest them again and run the same command"
    )


def _rejects_name(shard: Shard) -> str:
    return f"{shard.name}.rejects.parquet"
