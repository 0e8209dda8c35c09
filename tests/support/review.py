"""A workspace with a ranked queue of known truth, whose random sample can be labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ndec_builder.annotation.decisions.label_statistics import draw_pairs
from ndec_builder.annotation.push_options import PushOptions, write_push_options
from ndec_builder.annotation.stopping import certify
from ndec_builder.annotation.stopping.settings import CertifyConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.schemas import CANDIDATES, PRELABELS, table_of
from ndec_builder.core.storage import read_json, write_table
from ndec_builder.core.workspace import Workspace
from support.votes import Vote, labels_of, tasks_of

PAIRS, SAMPLE = 1500, 300


class Review:
    """PAIRS mined pairs, a third of them hard negatives, with relearnt probabilities that mostly rank these first."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)
        rng = np.random.default_rng(1)
        self.ids = [f"p{number:04d}" for number in range(PAIRS)]
        self.truth = {pair: "hard_negative" if rng.random() < 1 / 3 else "unrelated" for pair in self.ids}
        chance = {
            pair: float(rng.beta(4, 2) if label == "hard_negative" else rng.beta(2, 4))
            for pair, label in self.truth.items()
        }
        self.ranking = sorted(self.ids, key=lambda pair: -chance[pair])
        candidates = [
            {"pair_id": pair, "split": "test", "query_id": f"q{pair}", "reference_id": f"r{pair}", "score": 0.5,
             "rank": number + 1}
            for number, pair in enumerate(self.ids)
        ]  # fmt: skip
        learnt = [
            {"pair_id": pair, "edited_copy": (1 - p) / 2, "hard_negative": p, "unrelated": (1 - p) / 2}
            for pair, p in chance.items()
        ]
        write_table(self.workspace.candidates("test") / "candidates.parquet", table_of(CANDIDATES, candidates))
        write_table(self.workspace.annotation("test") / "prelabels.parquet", table_of(PRELABELS, learnt))
        self.sample = draw_pairs(self.ids, SAMPLE, "sample")
        write_push_options(self.workspace.annotation("test"), PushOptions(sample=SAMPLE))

    def label(self, pairs: list[str], more: list[Vote] | None = None) -> None:
        """Replace all labels: right ones by one annotator, and the votes of others."""
        votes = [(pair, "first", "ann", self.truth[pair]) for pair in dict.fromkeys(pairs)] + (more or [])
        folder = self.workspace.annotation("test")
        write_table(folder / "labels.parquet", labels_of(votes))
        write_table(folder / "tasks.parquet", tasks_of(votes))

    @property
    def tables(self) -> AnnotationTables:
        return AnnotationTables(self.workspace, "test")

    def run(self, **settings: object) -> dict[str, object]:
        config = CertifyConfig(self.workspace.root, **settings)  # type: ignore[arg-type]
        return dict(read_json(certify.run(config)))
