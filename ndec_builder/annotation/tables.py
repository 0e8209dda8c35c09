"""The tables of a split's annotation: each is read once, and writing one updates what is held in memory."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.label_tables import (
    ClassProbabilities,
    Key,
    compact_schema,
    copy_probabilities,
    keys,
    unmined_pairs,
    with_relearnt,
    without_set_aside,
)
from ndec_builder.annotation.push_options import PushOptions, read_push_options, write_push_options
from ndec_builder.annotation.records import label_file, ledger
from ndec_builder.annotation.records.gold_truth import GoldOverTime
from ndec_builder.annotation.records.pair_values import read_pair_values
from ndec_builder.annotation.records.pictures import ShownPictures, of_these_pictures
from ndec_builder.annotation.records.present_images import of_present_images
from ndec_builder.annotation.records.skips import skipped_keys, without_withdrawn
from ndec_builder.annotation.records.table_store import dictionary_columns
from ndec_builder.core.console import number_of
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
    SKIPS,
    TASKS,
    conform,
    table_of,
)
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace

RELEARNT_FILE = "prelabels.parquet"
CLEARED_BY_FILE = "cleared-by.parquet"
CERTIFICATE_FILE = "certificate.json"
WEIGHTS_FILE = "audit-weights.parquet"
RELEARN_RECORD, CLEAR_RECORD = "relearn.run.json", "auto-clear.run.json"
_COUNTED = ("valid_labels", "today", "counting_labels", "replaced", "labelled", "unmined")
_DEPENDENT = ("assigned", "shown", "skipped", *_COUNTED)
_ASSIGNED = ("pair_id", "round", "annotator", "batch", "is_gold")


class AnnotationTables:
    """The tables of one split, each read from disk on first use. A command opens this once and passes it on.

    A table that does not exist yet is empty. `write` updates the copy in memory; after another process wrote a table,
    call `reload`. A table may also be assigned, to compute with tables that are not on disk. `compact`: repeated values
    of project_tasks are dictionary-encoded, for a pull of millions; not every operation of Arrow takes that.
    """

    def __init__(self, workspace: Workspace, split: str, *, compact: bool = False) -> None:
        self.workspace, self.split, self.compact = workspace, split, compact
        self.directory = workspace.annotation(split)

    def reload(self) -> None:
        """Forget all tables, so that the next use reads them again."""
        for name in [name for name in vars(self) if name not in ("workspace", "split", "directory", "compact")]:
            delattr(self, name)

    def write(self, name: str, table: pa.Table) -> Path:
        """Write `name`.parquet, where `name` is one of the properties below, and hold the new table.

        An append-only table is written only if it has new rows, with an entry in the ledger (records/ledger.py).
        """
        if name in ledger.APPEND_ONLY:
            path = ledger.append(self.directory, name, table)
        else:
            path = write_table(self.directory / f"{name}.parquet", table)
        setattr(self, name, table)
        self._forget_dependent()
        return path

    def append_labels(self, new: pa.Table) -> Path:
        """Append rows (schema LABELS_IN_MEMORY) to labels.parquet without reading it into memory."""
        parts = itertools.chain(self.label_parts(), [new])
        path = ledger.append_parts(self.directory, "labels", new.schema, parts, self.label_count + new.num_rows)
        if "labels" in vars(self):
            self.labels = pa.concat_tables([self.labels, new.cast(self.labels.schema)])
        self._forget_dependent()
        return path

    def _forget_dependent(self) -> None:
        for name in _DEPENDENT:
            vars(self).pop(name, None)

    def read(self, name: str, schema: pa.Schema, added: tuple[str, ...] = (), where: Any = None) -> pa.Table:
        """Rows of a table as it is on disk, none if it does not exist. `added`: columns that older versions lack."""
        if name in ledger.APPEND_ONLY:
            ledger.check_present(self.directory, name)
        schema = compact_schema(schema) if self.compact and name == "project_tasks" else schema
        if not (path := self.directory / f"{name}.parquet").is_file():
            return table_of(schema, [])
        table = read_table(path, dictionary=dictionary_columns(schema), where=where)
        return label_file.with_columns(table, schema, added)

    @cached_property
    def tasks(self) -> pa.Table:
        """Who was given which pair (schema TASKS)."""
        return self.read("tasks", TASKS)

    @cached_property
    def assigned(self) -> pa.Table:
        """The columns of the tasks that say who was given which pair; round and annotator are dictionary-encoded."""
        self.require_pushed()
        schema = compact_schema(pa.schema([TASKS.field(name) for name in _ASSIGNED]))
        if "tasks" in vars(self):
            return self.tasks.select(_ASSIGNED).cast(schema)
        return read_table(self.directory / "tasks.parquet", [*_ASSIGNED], ("round", "annotator")).cast(schema)

    def require_tasks(self) -> pa.Table:
        """The tasks; raises NdecError before the first push."""
        self.require_pushed()
        return self.tasks

    def require_pushed(self) -> None:
        """Raise NdecError before the first push."""
        if "tasks" not in vars(self) and not (path := self.directory / "tasks.parquet").is_file():
            raise NdecError(
                f"no pair of the split {self.split!r} has been given to an annotator yet ({path} does not exist); run "
                f"`ndec annotate push --split {self.split} --workspace {self.workspace.root}` first"
            )

    @cached_property
    def labels(self) -> pa.Table:
        """All labels pulled so far (schema LABEL_ROWS), in the order in which they were pulled."""
        return self.read("labels", LABEL_ROWS, added=label_file.ADDED)

    def label_parts(self, start: int = 0) -> Iterator[pa.Table]:
        """The labels from row `start` on (schema LABELS_IN_MEMORY); a row group at a time if they are not in memory."""
        if "labels" in vars(self):
            return iter([self.labels.slice(start).cast(label_file.LABELS_IN_MEMORY)])
        return label_file.label_parts(self.directory, start)

    @property
    def label_count(self) -> int:
        """How many rows the labels have."""
        return int(self.labels.num_rows) if "labels" in vars(self) else label_file.label_count(self.directory)

    @cached_property
    def skips(self) -> pa.Table:
        """Skipped pairs and withdrawn labels (schema SKIPS), oldest first."""
        return self.read("skips", SKIPS)

    @cached_property
    def valid_labels(self) -> pa.Table:
        """The labels that were not withdrawn in Label Studio, by Skip or by deleting them."""
        return without_withdrawn(self.labels, self.skips)

    @cached_property
    def shown(self) -> ShownPictures:
        """The pictures of the pairs today, to compare with those that tasks and labels were made for."""
        return ShownPictures(self.workspace, self.split, vars(self).get("tasks"))

    @cached_property
    def today(self) -> pa.Table:
        """The labels that were not withdrawn and are about pictures that were not replaced."""
        return self.valid_labels.filter(pa.array(~self.shown.former_labels(self.valid_labels)))

    @cached_property
    def labelled(self) -> set[Key]:
        """(pair, round, annotator) of the labels of `today`; labels that were sent back are included."""
        return set(keys(self.today))

    @cached_property
    def skipped(self) -> set[Key]:
        """(pair, round, annotator) of the pairs that an annotator has skipped and not been given again."""
        return skipped_keys(self.label_parts(), self.skips, self.shown)

    @cached_property
    def set_aside(self) -> pa.Table:
        """Labels that were sent back (schema SET_ASIDE), oldest first."""
        return self.read("set_aside", SET_ASIDE)

    @cached_property
    def counting_labels(self) -> pa.Table:
        """The labels that count: not withdrawn or set aside, and about pictures that were not replaced."""
        return without_set_aside(self.today, self.set_aside)

    @cached_property
    def replaced(self) -> set[str]:
        """Pairs of which all labels are about pictures that were replaced since."""
        given = without_set_aside(self.valid_labels, self.set_aside)["pair_id"].to_pylist()
        return set(given) - set(self.counting_labels["pair_id"].to_pylist())

    @cached_property
    def decisions(self) -> pa.Table:
        """What the last `resolve` decided (schema DECISIONS)."""
        return self.read("decisions", DECISIONS)

    @cached_property
    def gold(self) -> pa.Table:
        """Pairs of known truth (schema GOLD)."""
        return self.read("gold", GOLD, added=("pictures",))

    def gold_truth(self) -> dict[str, str]:
        """pair_id → truth of each gold pair; without those that somebody labelled with other pictures."""
        unknown = GoldOverTime(self.workspace, self.split, self.gold).mislabelled(self.valid_labels)
        return {pair: truth for pair, truth in keys(self.gold, "pair_id", "truth") if pair not in unknown}

    @cached_property
    def project_tasks(self) -> pa.Table:
        """What Label Studio held at the last check (schema PROJECT_TASKS)."""
        return self.read("project_tasks", PROJECT_TASKS, added=("state", "pictures"))

    @cached_property
    def incidents(self) -> pa.Table:
        """Edits and deletions found in Label Studio so far (schema INCIDENTS), oldest first."""
        return self.read("incidents", INCIDENTS)

    @cached_property
    def cleared(self) -> pa.Table:
        """Pairs that `ndec annotate auto-clear` discarded (schema CLEARED), without those that show others since."""
        return of_these_pictures(self.read("cleared", CLEARED), self.shown, self.mined, self.directory / CLEAR_RECORD)

    @cached_property
    def mined(self) -> list[pa.Table]:
        """The mined pairs, then those of the second search (schema CANDIDATES); no table before mining."""
        return [conform(read_table(path), CANDIDATES) for path in self.workspace.candidate_files(self.split)]

    @cached_property
    def relearnt(self) -> dict[str, ClassProbabilities]:
        """pair_id → probabilities by `ndec annotate relearn`, if it ran and the pair still shows the same pictures."""
        if not (path := self.directory / RELEARNT_FILE).is_file():
            return {}
        table = conform(read_table(path), PRELABELS)
        columns = of_these_pictures(table, self.shown, self.mined, self.directory / RELEARN_RECORD).to_pydict()
        return {row[0]: row[1:] for row in zip(*columns.values(), strict=True)}

    @cached_property
    def candidates(self) -> list[pa.Table]:
        """The tables of `mined` with the relearnt pre-labels where there are any."""
        return [with_relearnt(table, self.relearnt) for table in self.mined]

    @property
    def former(self) -> pa.Table:
        """Pairs with a label that counts which the last mining did not find (schema CANDIDATES, no scores), by pair_id.

        Without those of images that were removed: no dataset has them.
        """
        return self.unmined[0]

    @cached_property
    def unmined(self) -> tuple[pa.Table, int]:
        """The table `former`, and the number of labelled pairs of images that were removed."""
        rows = unmined_pairs(self.candidates, self.counting_labels, lambda: self.tasks)
        table = table_of(CANDIDATES, [row | {"split": self.split} for row in rows])
        return of_present_images(self.workspace, self.split, table)

    def former_text(self) -> list[str]:
        """A line if labelled pairs are no longer mined, which count, and one if their images were removed."""
        whats = "no longer among the mined ones; such labels count", "of images that were removed; no dataset has them"
        found = zip((self.former.num_rows, self.unmined[1]), whats, strict=True)
        return [f"{number_of(n, 'labelled pair is', 'labelled pairs are')} {what}" for n, what in found if n]

    @cached_property
    def cleared_by(self) -> dict[str, float]:
        """P(edited copy) of all pairs at the time of auto-clearing; the current one if none was kept."""
        kept = read_pair_values(self.directory / CLEARED_BY_FILE, "probability")
        return copy_probabilities(self.candidates) if kept is None else kept

    @cached_property
    def certificate(self) -> dict[str, Any] | None:
        """What `ndec annotate certify` wrote; None before it ran."""
        path = self.directory / CERTIFICATE_FILE
        return read_json(path) if path.is_file() else None

    @cached_property
    def audit_weights(self) -> dict[str, float] | None:
        """pair_id → weight of the audit's draw (`audit --weighted`); None if draws are uniform."""
        return read_pair_values(self.directory / WEIGHTS_FILE, "weight")

    @cached_property
    def options(self) -> PushOptions:
        """Options of earlier pushes that later commands need."""
        return read_push_options(self.directory)

    def keep_options(
        self, hints_shown: bool, check_above: float, check_pairs: int, named: Collection[str] = (), sample: int = 0
    ) -> None:
        """Keep the options of a push that named these annotators (push_options.py)."""
        self.options = self.options.after_push(hints_shown, check_above, check_pairs, named, sample)
        write_push_options(self.directory, self.options)
