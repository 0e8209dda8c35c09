"""A small decided workspace with every case in it. Images are tiny real files; the expected dataset is in the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ndec_builder.core.schemas import (
    CANDIDATES,
    DECISIONS,
    EDITS,
    GROUND_TRUTH,
    IMAGES,
    LABEL_ROWS,
    TASKS,
    pair_id,
    table_of,
)
from ndec_builder.core.storage import sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.settings import CardConfig
from support.pictures import scene

LICENCE = {
    "license": "CC-BY-4.0",
    "author": "=HYPERLINK(evil)",
    "author_url": "https://example.org/a",
    "title": 'A, "B"\nC',
    "original_url": "https://example.org/o",
    "landing_url": "https://example.org/l",
}

CARD = CardConfig(  # every fact that a card can state
    url="https://example.org/bench",
    date_published="2026-11-29",
    keywords=("dashcam", "a: b"),
    collection="Taken by two of us in Delft in 2024, one picture a minute.",
    collection_type=("Direct measurement",),
    derived_from=("Delft Streets 2024", "https://example.org/streets"),
    annotators="Six students, paid by the hour.",
    limitations="One city; not for face search.",
    biases="Daylight only.",
    use_cases="Tuning of near-duplicate filters.",
    social_impact="Helps to find re-used pictures.",
    personal_information="Number plates and faces are blurred.",
    synthetic="no",
    maintenance="The authors; yearly.",
)


class World:
    """Writes the tables of a workspace, as the stages to the left leave them."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)

    def images(self, role: str, pictures: Mapping[str, tuple[int, str | None]]) -> None:
        """`pictures`: id → (seed of the scene, group). Equal seeds give equal bytes."""
        rows = []
        for image_id, (seed, group) in sorted(pictures.items()):
            path = self.workspace.files(role) / f"{image_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            scene(seed, (48, 32)).save(path)
            rows.append(
                {
                    "image_id": image_id,
                    "role": role,
                    "uri": self.workspace.uri_of(path),
                    "sha256": sha256_file(path),
                    "width": 48,
                    "height": 32,
                    "format": "PNG",
                    "rotation": 0,
                    "group": group,
                    **(LICENCE if role != "basic" else {}),
                }
            )
        write_table(self.workspace.images(role), table_of(IMAGES, rows))

    def edits(self, *rows: tuple[str, str, str, str, str]) -> None:
        names = ("image_id", "role", "source_id", "source_role", "kind")
        table = table_of(EDITS, [dict(zip(names, row, strict=True), edit='{"recipe": "copy"}') for row in rows])
        write_table(self.workspace.edits, table)

    def truth(self, *rows: tuple[str, str | None]) -> None:
        rows_ = [{"query_id": query, "reference_id": reference} for query, reference in rows]
        write_table(self.workspace.ground_truth, table_of(GROUND_TRUTH, rows_))

    def pairs(self, split: str, pairs: Mapping[tuple[str, str], str | None], name: str = "candidates.parquet") -> None:
        """`pairs`: (query, reference) → decision; None: undecided; "absent": no row; "duplicate": marked so."""
        rows = [
            {
                "pair_id": pair_id(split, query, reference),
                "split": split,
                "query_id": query,
                "reference_id": reference,
                "score": 0.9 - 0.01 * rank,
                "rank": rank,
                "duplicate_of": reference if decision == "duplicate" else None,
            }
            for rank, ((query, reference), decision) in enumerate(pairs.items(), 1)
        ]
        directory = self.workspace.candidates(split)
        write_table(directory / name, table_of(CANDIDATES, rows))
        config = {
            "model": "/secret/folder/net.pt",
            "top": 9,
            "max_per_query": 1,
            "max_per_reference": 0,
            "workspace": "/x",
        }
        record = {"config": config, "cut": 0.5, "counts": {"pairs": len(rows), "duplicates": 1}, "weights": {"w": "00"}}
        write_json(directory / "run.json", record | {"fingerprint": "f", "seconds": 1.5})

    def tasks(self, split: str, pairs: Iterable[tuple[str, str]], annotator: str = "anna") -> None:
        """Pairs that were given to an annotator."""
        rows = [
            {"pair_id": pair_id(split, *key), "round": "first", "annotator": annotator, "batch": 0, "position": place,
             "query_id": key[0], "reference_id": key[1], "is_gold": False}
            for place, key in enumerate(pairs)
        ]  # fmt: skip
        write_table(self.workspace.annotation(split) / "tasks.parquet", table_of(TASKS, rows))

    def decide(self, split: str, pairs: Mapping[tuple[str, str], str | None], annotator: str = "anna") -> None:
        decided = {key: label for key, label in pairs.items() if label not in ("absent", "duplicate")}
        ids = {key: pair_id(split, *key) for key in decided}
        directory = self.workspace.annotation(split)
        rows = [
            {"pair_id": ids[key], "decision": label, "basis": "agreed", "labels": 1} for key, label in decided.items()
        ]
        write_table(directory / "decisions.parquet", table_of(DECISIONS, rows))
        labels = [
            {
                "pair_id": ids[key],
                "round": "first",
                "annotator": annotator,
                "label": label,
                "is_gold": False,
                "batch": 0,
            }
            for key, label in decided.items()
            if label is not None
        ]
        write_table(directory / "labels.parquet", table_of(LABEL_ROWS, labels))


TEST_PAIRS = {
    ("p-hard", "r1"): "hard_negative",
    ("p-hard", "r2"): "unrelated",
    ("p-whole", "r2"): "hard_negative",
    ("p-copy", "r1"): "edited_copy",
    ("p-mixed", "r1"): "hard_negative",
    ("p-mixed", "r3"): "edited_copy",
    ("p-unsure", "r1"): "unsure",
    ("p-open", "r1"): None,
    ("p-unseen", "r1"): "absent",
    ("p-far", "r3"): "unrelated",
    ("p-dup", "r3"): "duplicate",
    ("p-twin", "r1"): "hard_negative",
}
TRAIN_PAIRS = {
    ("t-good", "b1"): "hard_negative",
    ("t-good", "b2"): "hard_negative",
    ("t-copy", "b1"): "edited_copy",
    ("t-dup", "b2"): "duplicate",
    ("t-leaky", "b2"): "hard_negative",  # its group is a reference's
    ("t-good", "b-leaky"): "hard_negative",  # so is its former's
    ("t-open", "b1"): None,
}


def make_world(folder: Path) -> World:
    """r1…r3; copies of r1 and r2 made by edits and one ingested with a ground truth; pool and basic with all cases."""
    world = World(folder / "bench")
    world.images("reference", {"r1": (1, "g1"), "r2": (2, "g2"), "r3": (3, None)})
    queries = {"copy-000000": (11, "g1"), "copy-000001": (12, "g2"), "mine": (3, None), "stranger": (14, "g-str")}
    world.images("query", queries)
    world.truth(("mine", "r3"), ("stranger", None))
    pool = {name: (20 + i, f"p{i}") for i, name in enumerate(dict.fromkeys(q for q, _ in TEST_PAIRS))}
    pool["p-twin"] = pool["p-hard"]  # the same file twice
    pool["p-whole"] = (pool["p-whole"][0], None)
    pool |= {name: (50 + i, f"t{i}") for i, name in enumerate(dict.fromkeys(q for q, _ in TRAIN_PAIRS))}
    pool["t-leaky"] = (pool["t-leaky"][0], "g1")
    pool |= {f"free{i}": (70 + i, None) for i in range(6)}
    pool |= {
        "free-ref-group": (80, "g2"),
        "free-train-group": (81, "t0"),
        "free-bytes": (1, None),
        "free-again": (70, "x"),
    }
    world.images("pool", pool)
    basic = {"b1": (90, "bb"), "b2": (91, None), "b-leaky": (92, "g2"), "b-bytes": (2, "own")}
    world.images("basic", basic)
    world.edits(
        ("copy-000000", "query", "r1", "reference", "edited_copy"),
        ("copy-000001", "query", "r2", "reference", "edited_copy"),
        ("p-whole", "pool", "r2", "reference", "reverse_crop"),
        ("p-hard", "pool", "b1", "basic", "reverse_crop"),  # of a training image: natural for the test
    )
    world.pairs("test", {key: TEST_PAIRS[key] for key in list(TEST_PAIRS)[:-1]})
    world.pairs("test", {("p-twin", "r1"): "hard_negative"}, "recheck.parquet")
    world.decide("test", TEST_PAIRS)
    world.pairs("train", TRAIN_PAIRS)
    world.decide("train", TRAIN_PAIRS, "bert")
    return world
