"""What computed the vectors of a folder, gathered from its shards; and the rule about precisions.

Vectors of the same precision can be mixed, whatever engine made them: float32 vectors of OpenVINO and torch have a
cosine of at least .999999, bfloat16 vectors of at least .9999. A float32 and a bfloat16 vector of one picture have a
cosine of about .999 (at least .997), so these are not mixed. Vectors made before the precision was recorded are
accepted with both.
"""

from __future__ import annotations

import functools
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.plan import Plan, Shard, marker
from ndec_builder.core.storage import read_json


@dataclass(frozen=True)
class EngineUsed:
    """What computed a set of vectors, for `run.json`."""

    engine: str  # openvino 2026.4.1, or torch 2.14.1
    precision: str  # float32 or bfloat16
    fallback: str = ""  # why torch was used although OpenVINO was wanted


def engine_name(shard: Shard) -> str:
    """File of the record of one shard."""
    return f"{shard.name}.engine.json"


def engine_of_shards(folder: Path, plan: Plan) -> dict[str, Any]:
    """The entries `engine`, `precision` and, if torch had to be used, `fallback` of run.json.

    Empty for shards made by a version that kept no record. Raises NdecError when shards have different precisions,
    because they were made on different machines; the markers of the smaller part are removed, so
    that a rerun redoes it.
    """
    found = {shard: folder / engine_name(shard) for shard in plan.shards}
    records = {shard: record for shard, path in found.items() if path.is_file() and (record := read_json(path))}
    by_precision: dict[str, list[Shard]] = {}
    for shard, record in records.items():
        by_precision.setdefault(record["precision"], []).append(shard)
    if len(by_precision) > 1:
        few = min(by_precision, key=lambda name: (len(by_precision[name]), name))
        for shard in by_precision[few]:
            marker(folder, shard).unlink(missing_ok=True)
        listed = ", ".join(f"{len(shards)} in {name}" for name, shards in sorted(by_precision.items()))
        raise NdecError(
            f"the shards of one folder were made in different precisions ({listed}), on different types of processor; "
            'such vectors cannot be compared. Set bf16 = "off" under [embed], or run the command again on the machine '
            f"with the other precision: that makes {number_of(len(by_precision[few]), 'shard')} in {few} again"
        )
    used = {name: sorted({record[name] for record in records.values()}) for name in ("engine", "precision", "fallback")}
    return {name: ", ".join(filter(None, values)) for name, values in used.items() if any(values)}


def check_precision(one: tuple[str, str | None], other: tuple[str, str | None]) -> None:
    """Raise NdecError when two roles (role, precision) have vectors of different precisions."""
    (role, precision), (other_role, other_precision) = one, other
    if None not in (precision, other_precision) and precision != other_precision:
        raise NdecError(
            f"the vectors of {role} and {other_role} cannot be compared: those of {role} are {precision}, those of "
            f"{other_role} are {other_precision}, because they were made on different types of processor or with "
            'another bf16. Set bf16 = "off" under [embed] and run `ndec embed` again for both roles'
        )


@functools.cache
def report_fallback(model: str, reason: str) -> None:
    """Say once that torch runs a model; worker processes are silent, since the command reports for them."""
    if multiprocessing.parent_process() is None:
        say(f"{model} runs on torch, which is slower: {reason}. The vectors are the same up to rounding")
