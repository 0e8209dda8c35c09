"""`extract` in shards, for tasks on other machines: the same descriptors as in one process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ndec_builder.core.executor.base import Engine, task_threads
from ndec_builder.core.executor.plan import Plan, Shard, check_files, close_plans, open_plan
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.executor.shard_items import step
from ndec_builder.core.schemas import REJECTS, table_of
from ndec_builder.core.storage import atomic_path, read_rows, read_table, write_table
from ndec_builder.embeddings.engines.trunk_source import TrunkSource
from ndec_builder.embeddings.extract import Extracted, extract

DESCRIBED_PER_SHARD = 256
_COLUMNS = ("image_id", "uri", "rotation", "sha256")  # those that `extract` reads


@dataclass(frozen=True)
class DescribeShard:
    """The work of one shard; picklable."""

    folder: Path
    trunk: TrunkSource
    batch_size: int

    def __call__(self, shard: Shard) -> Outcome:
        found = extract(
            self.trunk.open(), read_rows(self.folder / "images.parquet", shard.start, shard.stop), str,
            batch_size=self.batch_size, bf16=self.trunk.bf16, threads=task_threads(), progress=step,
        )  # fmt: skip
        path = self.folder / f"{shard.name}.npz"
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, ids=np.array(found.ids, np.str_), features=found.features)
        rejects = write_table(self.folder / _rejects_name(shard), table_of(REJECTS, found.rejects))
        return Outcome((path.name, rejects.name), {"embedded": len(found.ids), "on_dark": found.on_dark})


def describe_in_shards(
    engine: Engine, output: Path, trunk: TrunkSource, images: pa.Table, batch_size: int, mark: str
) -> Extracted:
    """Descriptors of images (image_id, absolute uri, perhaps rotation, sha256) as of `extract`, without `used`.

    Finished shards stay under `output` until all are done. `mark`: fingerprint of everything that the descriptors
    depend on. A shard has complete batches, so that each image is in the batch in which one process would put it.
    """
    plan = Plan(images.num_rows, -(-DESCRIBED_PER_SHARD // batch_size) * batch_size, mark)
    folder = open_plan(output, plan).absolute()
    write_table(folder / "images.parquet", images.select([name for name in _COLUMNS if name in images.column_names]))
    work = DescribeShard(folder, trunk, batch_size)
    engine = replace(engine, gpus=float(trunk.device == "cuda"))
    results = run_shards(folder, plan, work, engine, what=f"embedding with {trunk.name}", unit="images")
    ids, rejects, parts = [], [], []
    for shard, done in zip(plan.shards, results, strict=True):
        check_files(folder, shard, done)
        with np.load(folder / f"{shard.name}.npz", allow_pickle=False) as found:
            ids += found["ids"].tolist()
            parts.append(found["features"])
        rejects += read_table(folder / _rejects_name(shard)).to_pylist()
    close_plans(output)
    on_dark = sum(done.counts["on_dark"] for done in results)
    return Extracted(ids, np.concatenate(parts), rejects, None, on_dark)


def _rejects_name(shard: Shard) -> str:
    return f"{shard.name}.rejects.parquet"
