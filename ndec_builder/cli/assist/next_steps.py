"""The last line of a verb at a terminal: the next command."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any


def next_command(verb: str, config: Any, result: Path) -> str | None:
    """The usual next command in the same workspace; None after the last step of a task."""
    command = _command(verb, config, result)
    return command and in_workspace(command, getattr(config, "workspace", Path()))


def in_workspace(command: str, workspace: Path) -> str:
    """Add the workspace to each command of a line: several are joined by `&&`, a remark may follow after `;`."""
    if workspace == Path():
        return command
    commands, semicolon, remark = command.partition("; ")
    where = f" --workspace {shlex.quote(str(workspace))}"
    return " && ".join(each + where for each in commands.split(" && ")) + semicolon + remark


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
        case "mine" if config.labels:
            return f"ndec annotate resolve{split}; look at {result / 'contact_sheet.html'}"
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
        case "push":
            return f"ndec annotate pull{split}; first label the pairs at the addresses above"
        case "leave" | "send-back":
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
