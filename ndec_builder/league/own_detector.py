"""Runs one of ndec's own detectors in a process of its own: own_detector.py JOB.json RAY_ADDRESS.

It works in an empty workspace with the whitening of the given one, so that its CPU time includes every step. That
workspace is next to the result, where all nodes of a cluster see it, and where the league removes what a killed process
leaves.
"""

from __future__ import annotations

import csv
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from ndec_builder.core.config import as_typed
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.runner import engine_session
from ndec_builder.core.storage import read_json, write_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.benchmark import open_dataset
from ndec_builder.evaluation.detectors.methods import Method, config_of
from ndec_builder.evaluation.evaluate import evaluate_detector
from ndec_builder.evaluation.halves import HALF_NAMES, restricted
from ndec_builder.evaluation.settings import BenchmarkConfig


def run_own(job_file: Path, ray_address: str = "") -> None:
    job = read_json(job_file)
    out, settings = Path(job["out"]).absolute(), job["config"]
    given, engine = Workspace(Path(settings["workspace"])), settings.get("engine", "local")
    facts: dict[str, Any] = {"failed": {}} | ({"engine": engine} if engine == "ray" else {})
    with (
        tempfile.TemporaryDirectory(dir=out.parent, prefix=scratch_prefix(out)) as folder,
        out.open("w", newline="", encoding="utf-8") as file,
        engine_session(Engine(engine)),
    ):
        scratch = Workspace(Path(folder))
        config = replace(benchmark_config(job, Path(folder)), engine=engine, ray_address=ray_address)
        for model in config.models:
            if given.whitening(model).is_dir():
                shutil.copytree(given.whitening(model), scratch.whitening(model))
        dataset = open_dataset(config)
        for half in HALF_NAMES:
            data = restricted(dataset, half)
            if not len(data.queries):
                continue
            run = evaluate_detector(config, scratch, data)
            found = run.final
            facts |= {"about": run.scored.about, "weights": run.scored.weights}
            facts["failed"] |= {name: reason for side in run.scored.rejects.values() for name, reason in side.items()}
            csv.writer(file).writerows(
                (data.query_ids[query], data.reference_ids[reference], repr(score))
                for query, reference, score in zip(
                    found.query.tolist(), found.reference.tolist(), found.scores.tolist(), strict=True
                )
            )
    write_json(Path(f"{out}.json"), facts)


def scratch_prefix(out: Path) -> str:
    """How the names of the temporary folders begin in which the detector that writes `out` works."""
    return f".{out.stem}-"


def benchmark_config(job: dict[str, Any], workspace: Path) -> BenchmarkConfig:
    """The benchmark that gives the list of this detector."""
    settings = job["config"]
    data: dict[str, Any] = {
        name: Path(settings[name])
        for name in ("manifest", "queries", "references", "ground_truth", "kinds")
        if settings.get(name)
    }
    if job["method"] is not None:
        source = {name: as_typed(value, _FIELDS[name], name) for name, value in job["method"]["source"].items()}
        return config_of(Method(job["name"], source), BenchmarkConfig(workspace=workspace, model="given", **data))
    how: dict[str, Any] = {"cosine": {}, "asl": {"scorer": "asl"}, "fused": {"scorer": "fused"}}[job["name"]]
    if job["name"] == "asl":
        how["asl_checkpoint"] = Path(settings["checkpoint"])
    if job["name"] == "fused" and settings["fused_model"]:
        how["fused_model"] = Path(settings["fused_model"])
    return BenchmarkConfig(workspace=workspace, model=settings["model"], **data, **how)


_FIELDS: dict[str, Any] = {
    "descriptors": tuple[Path, ...], "checkpoint": tuple[Path, ...], "model": tuple[str, ...],
}  # fmt: skip

if __name__ == "__main__":
    run_own(Path(sys.argv[1]), sys.argv[2])
