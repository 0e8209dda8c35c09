"""The pairs of the human-time study and its SIMULATED annotators, who fill the product's tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from ndec_builder.annotation.assignment.queues import (
    assign_new_pairs,
    assign_people,
    disputed_pairs,
    double_check_pairs,
)
from ndec_builder.annotation.decisions.resolution import decision_table
from ndec_builder.annotation.decisions.rival_features import rival_features
from ndec_builder.annotation.label_tables import Pair, copy_probabilities
from ndec_builder.annotation.relearn import reference_groups, shown_pairs
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.candidates.geometry.table import read_geometry
from ndec_builder.candidates.prelabel import candidate_features
from ndec_builder.core.schemas import LABEL_ROWS, LABELS, TASKS, table_of
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.corpus.known_truth import known_label

MIXED = "3 % and 8 %"
MIXES = {"3 %": (0.03,) * 6, "8 %": (0.08,) * 6, MIXED: (0.03, 0.08) * 3}
NAMES = ("ann", "ben", "cleo", "dora", "eli", "fay")
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class Bench:
    """The pairs: (pair, query, reference) in rank order, their truth, features, groups and first P(edited copy)."""

    pairs: list[Pair]
    truth: dict[str, str]
    features: np.ndarray
    groups: list[str]
    first: np.ndarray
    candidates: pa.Table

    @property
    def ids(self) -> list[str]:
        return [pair for pair, _, _ in self.pairs]

    @classmethod
    def read(cls, workspace: Workspace) -> Bench:
        table = shown_pairs(AnnotationTables(workspace, "test"))
        ends = [table[name].to_pylist() for name in ("pair_id", "query_id", "reference_id")]
        label, known = known_label(workspace), copy_probabilities([table])
        first = np.array([known[pair] for pair in ends[0]])
        return cls(
            list(zip(*ends, strict=True)),
            {pair: label(query, reference) for pair, query, reference in zip(*ends, strict=True)},
            np.column_stack(
                [candidate_features(table, read_geometry(workspace, "test")), rival_features(table, first)]
            ),
            reference_groups(workspace, "test", ends[2]),
            first,
            table,
        )

    def only(self, rows: np.ndarray) -> Bench:
        pairs = [self.pairs[row] for row in rows]
        truth = {pair: self.truth[pair] for pair, _, _ in pairs}
        groups = [self.groups[row] for row in rows]
        return Bench(pairs, truth, self.features[rows], groups, self.first[rows], self.candidates.take(pa.array(rows)))


class Crew:
    """SIMULATED annotators and the tables that they fill."""

    def __init__(self, bench: Bench, errors: Sequence[float], seed: int) -> None:
        self.bench, self.errors = bench, dict(zip(NAMES, errors, strict=True))
        self.rng = np.random.default_rng(seed)
        self.tasks, self.labels = table_of(TASKS, []), table_of(LABEL_ROWS, [])
        self.seen: dict[str, dict[str, str]] = defaultdict(dict)  # pair → who → in which round

    def look(self, round_: str, pairs: Iterable[str], people: int = 1) -> None:
        """Give pairs to people in a round, as push does, and let them answer."""
        chosen = set(pairs)
        if people > 1:
            self.give(round_, dict.fromkeys(chosen, people))
            return
        rows = [pair for pair in self.bench.pairs if pair[0] in chosen]
        self._answer(
            assign_new_pairs(rows, round_, NAMES, tasks=self.tasks, seen_by=self._seen(round_), load=self._load())
        )

    def give(self, round_: str, people: Mapping[str, int]) -> None:
        by_id = {pair[0]: pair for pair in self.bench.pairs}
        ordered = dict(sorted(people.items()))
        self._answer(
            assign_people(
                by_id, ordered, round_, NAMES, tasks=self.tasks, seen_by=self._seen(round_), load=self._load()
            )
        )

    def free(self, pair: str) -> int:
        """How many people have not seen a pair."""
        return len(NAMES) - len(self.seen[pair])

    def had(self, round_: str, pair: str) -> int:
        """How many people have seen a pair in a round."""
        return sum(found == round_ for found in self.seen[pair].values())

    def _seen(self, round_: str) -> dict[str, set[str]]:
        return {pair: {name for name, found in who.items() if found != round_} for pair, who in self.seen.items()}

    def _load(self) -> dict[str, int]:
        """Everyone had the same number in the end: the annotator with the most labels gets the next pair last."""
        return dict(Counter(self.tasks["annotator"].to_pylist()))

    def _answer(self, tasks: pa.Table) -> None:
        rows = []
        for row in tasks.to_pylist():
            label, wrong = self.bench.truth[row["pair_id"]], bool(self.rng.random() < self.errors[row["annotator"]])
            if wrong:
                label = str(self.rng.choice([other for other in LABELS if other != label]))
            self.seen[row["pair_id"]][row["annotator"]] = row["round"]
            rows.append(
                {"pair_id": row["pair_id"], "round": row["round"], "annotator": row["annotator"], "label": label,
                 "seconds": 4.0, "annotated_at": START + timedelta(seconds=5 * (self.labels.num_rows + len(rows))),
                 "is_gold": row["is_gold"], "batch": row["batch"]}
            )  # fmt: skip
        self.tasks = pa.concat_tables([self.tasks, tasks])
        self.labels = pa.concat_tables([self.labels, table_of(LABEL_ROWS, rows)])

    @property
    def looks(self) -> int:
        return int(self.labels.num_rows)

    def disputed(self) -> set[str]:
        return disputed_pairs(decision_table(self.tasks, self.labels))

    def decisions(self) -> dict[str, str]:
        return decisions_of(decision_table(self.tasks, self.labels))


def everything_twice(crew: Crew) -> dict[str, str]:
    """The baseline: one label for every pair, a second by a different annotator, a third where they disagree."""
    crew.look("first", crew.bench.ids)
    crew.look("double_check", double_check_pairs(crew.labels, "all"))
    crew.look("adjudication", crew.disputed())
    return crew.decisions()


def decisions_of(table: pa.Table) -> dict[str, str]:
    """Pair → decision; what stays undecided is unsure."""
    pairs = zip(table["pair_id"].to_pylist(), table["decision"].to_pylist(), strict=True)
    return {pair: decision or "unsure" for pair, decision in pairs}
