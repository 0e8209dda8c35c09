"""The tables of a split's annotation: each is read once, and writing one updates what is held in memory."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import pyarrow as pa

from ndec_builder.annotation.label_tables import (
    ClassProbabilities,
    copy_probabilities,
    with_relearnt,
    without_set_aside,
)
from ndec_builder.annotation.push_options import PushOptions, read_push_options, write_push_options
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import (
    CANDIDATES,
    CLEARED,
    DECISIONS,
    GOLD,
    INCIDENTS,
    LABEL_ROWS,
    PRELABELS,
    PROJECT_TASKS,
    SET_ASIDE,
    TASKS,
    conform,
    table_of,
)
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace

GOLD_ROLE = "gold"  # role of the images made for gold pairs; no other stage reads this role
RELEARNT_FILE = "prelabels.parquet"
CLEARED_BY_FILE = "cleared-by.parquet"


class AnnotationTables:
    """The tables of one split, each read from disk on first use. A command opens this once and passes it on.

    A table that does not exist yet is empty. `write` updates the copy in memory; after another process wrote a table,
    call `reload`. A table may also be assigned, to compute with tables that are not on disk.
    """

    def __init__(self, workspace: Workspace, split: str) -> None:
        self.workspace, self.split = workspace, split
        self.directory = workspace.annotation(split)

    def reload(self) -> None:
        """Forget all tables, so that the next use reads them again."""
        for name in [name for name in vars(self) if name not in ("workspace", "split", "directory")]:
            delattr(self, name)

    def write(self, name: str, table: pa.Table) -> Path:
        """Write `name`.parquet, where `name` is one of the properties below, and hold the new table."""
        path = write_table(self.directory / f"{name}.parquet", table)
        setattr(self, name, table)
        vars(self).pop("counting_labels", None)  # depends on labels and set_aside
        return path

    def _read(self, name: str, schema: pa.Schema) -> pa.Table:
        path = self.directory / f"{name}.parquet"
        return conform(read_table(path), schema) if path.is_file() else table_of(schema, [])

    @cached_property
    def tasks(self) -> pa.Table:
        """Who was given which pair (schema TASKS)."""
        return self._read("tasks", TASKS)

    def require_tasks(self) -> pa.Table:
        """The tasks; raises NdecError before the first push."""
        if "tasks" not in vars(self) and not (path := self.directory / "tasks.parquet").is_file():
            raise NdecError(
                f"no pair of the split {self.split!r} has been given to an annotator yet ({path} does not exist); run "
                f"`ndec annotate push --split {self.split} --workspace {self.workspace.root}` first"
            )
        return self.tasks

    @cached_property
    def labels(self) -> pa.Table:
        """All labels pulled so far (schema LABEL_ROWS), in the order in which they were pulled."""
        path = self.directory / "labels.parquet"
        if not path.is_file():
            return table_of(LABEL_ROWS, [])
        table = read_table(path)
        for name in ("project", "login"):  # older tables lack these columns
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(table.num_rows, LABEL_ROWS.field(name).type))
        return conform(table, LABEL_ROWS)

    @cached_property
    def set_aside(self) -> pa.Table:
        """Labels that were sent back (schema SET_ASIDE), oldest first."""
        return self._read("set_aside", SET_ASIDE)

    @cached_property
    def counting_labels(self) -> pa.Table:
        """The labels that count: all except those that were set aside."""
        return without_set_aside(self.labels, self.set_aside)

    @cached_property
    def decisions(self) -> pa.Table:
        """What the last `resolve` decided (schema DECISIONS)."""
        return self._read("decisions", DECISIONS)

    @cached_property
    def gold(self) -> pa.Table:
        """Pairs of known truth (schema GOLD)."""
        return self._read("gold", GOLD)

    def gold_truth(self) -> dict[str, str]:
        """pair_id → truth of each gold pair."""
        return dict(zip(self.gold["pair_id"].to_pylist(), self.gold["truth"].to_pylist(), strict=True))

    @cached_property
    def project_tasks(self) -> pa.Table:
        """What Label Studio held at the last check (schema PROJECT_TASKS)."""
        return self._read("project_tasks", PROJECT_TASKS)

    @cached_property
    def incidents(self) -> pa.Table:
        """Edits and deletions found in Label Studio so far (schema INCIDENTS), oldest first."""
        return self._read("incidents", INCIDENTS)

    @cached_property
    def cleared(self) -> pa.Table:
        """Pairs that `ndec annotate auto-clear` discarded (schema CLEARED)."""
        return self._read("cleared", CLEARED)

    @cached_property
    def mined(self) -> list[pa.Table]:
        """The mined pairs, then those of the second search (schema CANDIDATES); no table before mining."""
        return [conform(read_table(path), CANDIDATES) for path in self.workspace.candidate_files(self.split)]

    @cached_property
    def relearnt(self) -> dict[str, ClassProbabilities]:
        """pair_id → probabilities written by `ndec annotate relearn`; empty if it was never run."""
        path = self.directory / RELEARNT_FILE
        if not path.is_file():
            return {}
        columns = conform(read_table(path), PRELABELS).to_pydict()
        return {row[0]: row[1:] for row in zip(*columns.values(), strict=True)}

    @cached_property
    def candidates(self) -> list[pa.Table]:
        """The tables of `mined` with the relearnt pre-labels where there are any."""
        return [with_relearnt(table, self.relearnt) for table in self.mined]

    @cached_property
    def cleared_by(self) -> dict[str, float]:
        """P(edited copy) of all pairs at the time of auto-clearing; the current one if none was kept."""
        path = self.directory / CLEARED_BY_FILE
        if not path.is_file():
            return copy_probabilities(self.candidates)
        table = read_table(path)
        return dict(zip(table["pair_id"].to_pylist(), table["probability"].to_pylist(), strict=True))

    def write_cleared_by(self) -> None:
        """Keep the current P(edited copy) of all pairs: relearning changes the probabilities later."""
        probabilities = copy_probabilities(self.candidates)
        columns = {"pair_id": list(probabilities), "probability": list(probabilities.values())}
        write_table(self.directory / CLEARED_BY_FILE, pa.table(columns).sort_by("pair_id"))
        self.cleared_by = probabilities

    @cached_property
    def options(self) -> PushOptions:
        """Options of earlier pushes that later commands need."""
        return read_push_options(self.directory)

    def keep_options(self, hints_shown: bool, check_above: float, check_pairs: int) -> None:
        """Keep the options of a push (push_options.py)."""
        self.options = self.options.after_push(hints_shown, check_above, check_pairs)
        write_push_options(self.directory, self.options)


def gold_images(workspace: Workspace) -> Path:
    """Table (schema IMAGES) of the images made for gold pairs."""
    return workspace.root / "images" / "gold.parquet"


def missing_file(workspace: Workspace) -> Path:
    """Images that the page could not show: {"role/image_id": {"reason", "since"}}; absent if there was none."""
    return workspace.root / "annotation" / "missing_images.json"


def missing_images(workspace: Workspace) -> dict[str, dict[str, str]]:
    """The content of `missing_file`."""
    path = missing_file(workspace)
    return read_json(path) if path.is_file() else {}
