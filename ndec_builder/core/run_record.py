"""`run.json`: command, inputs and counts of a run. Stored next to each output; not a result file itself."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ndec_builder.core.addresses import without_credentials
from ndec_builder.core.config import as_dict
from ndec_builder.core.storage import read_json, write_json
from ndec_builder.version import __version__


class RunRecord:
    """Collects one run's facts and writes them. Usage: make it, do the work, `record.write(directory, counts=…)`."""

    def __init__(self, stage: str, config: Any, result_version: int) -> None:
        self.stage, self.config, self.result_version = stage, config, result_version
        self.started_at = datetime.now(UTC)
        self._clock = time.monotonic()

    def write(
        self,
        directory: Path,
        *,
        counts: dict[str, Any],
        inputs: dict[str, str] | None = None,
        weights: dict[str, str] | None = None,
        name: str = "run.json",
        **more: Any,
    ) -> Path:
        """Write `directory/run.json` (or `name`). `inputs` and `weights` map a name to the sha256 of the file.

        Passwords and signatures are taken out of all URLs.
        """
        return write_json(
            directory / name,
            _cleaned(
                {
                    "stage": self.stage,
                    "config": as_dict(self.config),
                    "code_version": __version__,
                    "result_version": self.result_version,
                    "inputs": inputs or {},
                    "weights": weights or {},
                    "counts": counts,
                    "started_at": self.started_at.isoformat(timespec="seconds"),
                    "seconds": round(time.monotonic() - self._clock, 3),
                    "host": {
                        "python": platform.python_version(),
                        "machine": platform.machine(),
                        "cores": os.cpu_count(),
                    },
                    **more,
                }
            ),
        )

    def earlier(self, directory: Path, name: str = "run.json") -> dict[str, Any] | None:
        """The record `directory/name` if the same command wrote it with the same settings; None otherwise."""
        path = directory / name
        found: dict[str, Any] = read_json(path) if path.is_file() else {}
        mine = {"stage": self.stage, "config": _cleaned(as_dict(self.config))}
        return found if all(found.get(key) == value for key, value in mine.items()) else None


def added_to(path: Path) -> list[dict[str, Any]]:
    """The runs that a record describes, oldest first, for the record of a run that adds to their result.

    Raises NdecError for a record that is not JSON.
    """
    if not path.is_file():
        return []
    record: dict[str, Any] = read_json(path)
    earlier = record.pop("earlier", [])
    return [*earlier, {name: entry for name, entry in record.items() if name not in ("host", "stage")}]


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(entry) for entry in value]
    return without_credentials(value) if isinstance(value, str) else value
