"""The last line of a verb: the natural next command. For people only: it is left out where stderr is no terminal."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any


def next_command(verb: str, config: Any, result: Path) -> str | None:
    """What most people do after this verb, with the same workspace; None after verbs that end something."""
    command = _command(verb, config, result)
    workspace = getattr(config, "workspace", None)
    if command is None or workspace is None or workspace == Path():
        return command
    first, _, page = command.partition("; ")
    return f"{first} --workspace {shlex.quote(str(workspace))}" + (f"; {page}" if page else "")


def _command(verb: str, config: Any, result: Path) -> str | None:
    split = f" --split {config.split}" if getattr(config, "split", "test") != "test" else ""
    dataset = shlex.quote(str(result))
    match verb:
        case "ingest":
            return _after_ingest(config)
        case "descriptors":
            return f"ndec mine --model {config.model or Path(config.source).stem}"
        case "corpus":
            return "ndec edit --count 400"
        case "edit" | "embed":
            decided = Path(config.workspace) / "annotation" / "test" / "decisions.parquet"
            return "ndec export" if verb == "edit" and decided.is_file() else "ndec mine"
        case "mine":
            serves = (Path(config.workspace) / "label_studio" / "server.json").is_file()
            following = f"push{split}" if serves else "serve"
            return f"ndec annotate {following}; look at {result / 'contact_sheet.html'}"
        case "auto-clear":
            return f"ndec annotate resolve{split}"
        case "relearn":
            return f"ndec annotate double-check{split} --which uncertain"
        case "prelabel":
            return f"ndec annotate push{split}"
        case "recheck":
            record = json.loads(result.with_name("recheck.run.json").read_text("utf-8"))
            return f"ndec annotate push{split}" if record["counts"]["new_pairs"] else "ndec export"
        case "push" | "leave" | "send-back":
            return f"ndec annotate status{split}"
        case "pull":
            return f"ndec annotate resolve{split}"
        case "resolve":
            return "ndec annotate recheck" if not split else "ndec export"
        case "export":
            rows = json.loads((result / "manifest.json").read_text("utf-8"))["counts"]["rows"]
            trainable = rows["train_pairs"] and rows["train_basic"]
            return f"ndec {'train-asl' if trainable else 'benchmark'} --manifest {dataset}" + (
                "" if trainable else " --model efficientnet-lite0"
            )
        case "train-asl":
            manifest = shlex.quote(str(config.manifest))
            return f"ndec benchmark --manifest {manifest} --checkpoint {dataset} --scorer asl"
        case "train-fused":
            manifest = shlex.quote(str(config.manifest))
            fused = f"--scorer fused --fused-model {dataset}"
            return f"ndec benchmark --manifest {manifest} --model {config.backbone} {fused}"
        case "benchmark":
            return f"ndec status; look at {result / 'report.html'}"
        case "fetch":
            return f"ndec validate {dataset}"
    return None


def _after_ingest(config: Any) -> str:
    there = {role: (Path(config.workspace) / "images" / f"{role}.parquet").is_file() for role in ("reference", "pool")}
    if config.role in ("query", "all"):
        return "ndec export" if config.role == "query" else "ndec status"
    if not any(there.values()):
        return "ndec mine --pool FOLDER --references FOLDER"
    if not all(there.values()):
        return f"ndec ingest {'pool' if there['reference'] else 'reference'} FOLDER"
    return "ndec mine --split train" if config.role == "basic" else "ndec mine"
