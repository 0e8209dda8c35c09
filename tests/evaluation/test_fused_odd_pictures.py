"""The fused scorer on odd pictures: plain colours, no keypoints, equal references, thumbnails, a collage of ten."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.settings import BenchmarkConfig
from support.pictures import textured

pytestmark = pytest.mark.slow

TEN = [f"r{number}" for number in range(10)]


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], float]:
    """(query, reference) → score by the fit that comes with ndec, with both shortlists."""
    root = tmp_path_factory.mktemp("odd")
    references = {name: textured(40 + number, (300, 225)) for number, name in enumerate(TEN)}

    def collage(columns: int) -> Image.Image:
        """The first references, in two rows."""
        made = Image.new("RGB", (columns * 200, 2 * 150))
        for number in range(2 * columns):
            part = references[TEN[number]].resize((200, 150))
            made.paste(part, (number % columns * 200, number // columns * 150))
        return made

    ramp = Image.fromarray(np.tile(np.arange(240, dtype=np.uint8), (180, 1))).convert("RGB")
    pictures = {
        **{f"references/{name}": picture for name, picture in references.items()},
        "references/equal": references["r0"],
        "references/plain": Image.new("RGB", (300, 225), (180, 40, 40)),
        "references/ramp": ramp,  # no keypoints
        "references/tiny": textured(60, (40, 30)),
        "queries/collage": collage(5),
        "queries/collage of six": collage(3),
        "queries/equal": references["r0"].rotate(4),
        "queries/plain": Image.new("RGB", (200, 150), (180, 40, 40)),
        "queries/ramp": ramp.resize((160, 120)),
        "queries/small": references["r5"].resize((40, 30)),
        "queries/tiny": textured(60, (40, 30)).resize((160, 120)),
    }
    for name, picture in pictures.items():
        (root / name).parent.mkdir(exist_ok=True)
        picture.save(root / f"{name}.png")
    (root / "truth.csv").write_text("equal,r0\nequal,equal\nsmall,r5\n" + "".join(f"collage,{name}\n" for name in TEN))
    report = run(
        BenchmarkConfig(
            workspace=root / "w", queries=root / "queries", references=root / "references", workers=1, replicates=100,
            ground_truth=root / "truth.csv", model="efficientnet-lite0", scorer="fused", shortlist="both",
            rescored_local=10, rescored_within=2.0, device="cpu",
        )
    )  # fmt: skip
    with (report / "predictions.csv").open() as file:
        return {(query, reference): float(score) for query, reference, score in list(csv.reader(file))[1:]}


def test_all_scores_are_finite_and_at_most_one(scores: dict[tuple[str, str], float]) -> None:
    assert np.isfinite(list(scores.values())).all() and max(scores.values()) <= 1


def test_equal_references_share_a_query_and_do_not_compete(scores: dict[tuple[str, str], float]) -> None:
    assert scores["equal", "r0"] == scores["equal", "equal"] > 0.5
    assert scores["equal", "r0"] > max(s for (q, r), s in scores.items() if q == "equal" and r not in ("r0", "equal"))


def parts_and_best_other(
    scores: dict[tuple[str, str], float], query: str, parts: list[str]
) -> tuple[list[float], float]:
    own = {reference: score for (name, reference), score in scores.items() if name == query}
    return [own[name] for name in parts], max(s for name, s in own.items() if name not in (*parts, "equal"))


def test_all_parts_of_a_collage_of_six_rank_above_all_others(scores: dict[tuple[str, str], float]) -> None:
    parts, best_other = parts_and_best_other(scores, "collage of six", TEN[:6])
    assert min(parts) > best_other


def test_all_parts_of_a_collage_of_ten_are_examined_and_most_rank_above_all_others(
    scores: dict[tuple[str, str], float],
) -> None:
    # each is 45 px wide where keypoints are searched: not all have the 8 matches that a homography needs
    parts, best_other = parts_and_best_other(scores, "collage", TEN)
    assert min(parts) >= 0
    assert sum(score > best_other for score in parts) >= 6


def test_a_thumbnail_of_40_px_ranks_its_reference_first(scores: dict[tuple[str, str], float]) -> None:
    own = {reference: score for (query, reference), score in scores.items() if query == "small"}
    assert max(own, key=lambda name: own[name]) == "r5"


def test_a_plain_reference_is_no_copy_of_a_picture(scores: dict[tuple[str, str], float]) -> None:
    assert max(s for (q, r), s in scores.items() if r == "plain" and q not in ("plain", "ramp")) < 0.5
