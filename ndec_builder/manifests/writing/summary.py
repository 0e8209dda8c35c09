"""What `ndec export` prints about a dataset: shortages, what was left out in words, and what is still to decide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.console import number_of
from ndec_builder.manifests.matches import LOST, UNCLEAR
from ndec_builder.manifests.writing.distractors import CLOSE, GROUPED
from ndec_builder.manifests.writing.labelled_pairs import OPEN, OTHERWISE, SEVERAL, UNSEEN

_TABLES = {
    "test_pool_images": "mined pool images that are no hard-negative query",
    "train_basic": "training images left out",
    "train_pairs": "training pairs left out",
    "distractors": "unmined pool images that are no distractor",
    "queries": "queries left out",
    "listed_images": "listed images left out",
    "references": "references left out",
    "pool": "pool images left out",
    "basic_images": "training images left out",
}
_SAME_BYTES, _GROUP = "same bytes as a test image", "same group as a test image"
_REASONS = {  # reason in manifest.json → in words
    "duplicate": "with the same picture as a reference",
    "edited_copy": "edited copies",
    UNCLEAR: "edited copies of pool images that may be copies of a reference",
    LOST: "edited copies of images that were replaced or removed; `ndec edit` makes them again",
    "unsure": "with a pair that annotators are unsure about",
    "undecided": "with a pair that has no decision yet",
    "no_hard_negative": "with unrelated pairs only",
    SEVERAL: "edited copies of several references",
    OPEN: "edited copies with another pair that has no decision yet",
    UNSEEN: "edited copies that were auto-cleared and that nobody labelled",
    "copy_of_a_reference_that_is_gone": "edited copies of a reference that was removed",
    "no_longer_in_pool": "no longer in the pool",
    "same_bytes_as_another_image": "with the same bytes as another image",
    "same_bytes_as_a_test_image": _SAME_BYTES,
    "group_of_a_test_image": _GROUP,
    "latter_same_bytes_as_a_test_image": f"pool image: {_SAME_BYTES}",
    "latter_group_of_a_test_image": f"pool image: {_GROUP}",
    "latter_no_longer_in_pool": "pool image no longer in the pool",
    "former_not_in_train_basic": "their training image was left out",
    OTHERWISE: "called something else by people, under the ids of twins, under an earlier id, or against an ingested "
    "release",
    "twin_of_another_image": "with the same picture as another one",
    GROUPED: "in the group of a training image or reference",
    CLOSE: "as close to a reference as the mined pairs, and not labelled",
    "distractor_of_same_bytes_as_another_image": "distractors with the same bytes as another image",
}


def summary_lines(info: Mapping[str, Any], requested: int) -> list[str]:
    """Lines about the content of `manifest.json`. requested: how many distractors were asked for."""
    lines = []
    if info["settings"].get("train_only"):
        lines.append("this dataset has the training tables only; `ndec benchmark` needs one with a test set")
    elif not info["counts"]["queries"].get("hard_negative"):
        lines.append("this dataset has no hard negatives: no pool image was kept; the next lines say why")
    lines += [_left_out(table, reasons) for table, reasons in info["dropped"].items() if any(reasons.values())]
    lines += [line for split in GALLERY if (line := _undecided(split, info["lineage"]))]
    if count := info["lineage"].get("test", {}).get("mining", {}).get("queries_not_rechecked"):
        lines.append(
            f"{number_of(count, 'hard-negative query was', 'hard-negative queries were')} not searched again in all "
            "references, or only before these changed: each may be a copy of one that nobody saw next to it. Run "
            "`ndec annotate recheck`, push and label what it finds, then export the next version"
        )
    if renamed := info.get("renamed_pool_images"):
        lines.append(
            f"{number_of(len(renamed), 'pool image shares its id', 'pool images share their ids')} with a query or "
            f"training image and got another one in this dataset ({next(iter(renamed))!r} first; "
            "renamed_pool_images in manifest.json)"
        )
    if requested:
        lines += _distractors(info, requested)
    if removed := info["credentials_removed"]:
        lines.append(f"passwords, tokens or signatures were removed from the URLs of {number_of(removed, 'image')}")
    return lines


def _left_out(table: str, reasons: Mapping[str, int]) -> str:
    why = ", ".join(f"{count:,} {_in_words(reason)}" for reason, count in reasons.items() if count)
    return f"{_TABLES.get(table, table)}: {why}"


def _in_words(reason: str) -> str:
    if reason.startswith("unreadable_"):
        return f"unreadable, role {reason.removeprefix('unreadable_')}"
    return _REASONS.get(reason, reason)


def _undecided(split: str, lineage: Mapping[str, Any]) -> str | None:
    """How many pairs of the split have no decision, and the next command."""
    found = lineage.get(split, {}).get("undecided")
    if not found or not found["pairs"]:
        return None
    option = "" if split == "test" else f" --split {split}"
    steps = f"label them, `ndec annotate pull{option}`, `ndec annotate resolve{option}`, then export the next version"
    text = f"{number_of(found['pairs'], 'pair')} of split {split} without a decision"
    if new := found["never_assigned"]:
        part = "given to nobody yet" if new == found["pairs"] else f"{new:,} of them given to nobody yet"
        return f"{text}, {part}: `ndec annotate push{option}`, {steps}"
    return f"{text}: {steps}. `ndec annotate adjudicate{option}` gives disputed pairs to one more annotator"


def _distractors(info: Mapping[str, Any], requested: int) -> list[str]:
    settings, close = info["settings"], info["dropped"].get("distractors", {}).get(CLOSE, 0)
    drawn, compared = settings["distractors_drawn"], settings["distractors_compared"]
    lines = []
    if drawn < requested:
        lines.append(f"{requested:,} distractors were requested; the unmined pool has only {drawn:,}")
    if not compared:
        lines.append(
            "the distractors were not compared with the references, because the vectors of the mining are missing, "
            "out of date or made again in another way; some may be copies: run `ndec mine` and export again"
        )
    elif drawn:
        lines.append(
            f"{number_of(drawn, 'distractor')}: nobody labelled them, and none reaches the mining cut. A copy that "
            "the descriptor misses can be among them: `ndec annotate recheck --distractors 50` gives the closest "
            "unmined images to annotators"
        )
    if close:
        lines.append(
            f"{number_of(close, 'pool image was', 'pool images were')} passed over as distractors, because nobody "
            "labelled them and they are as close to a reference as the mined pairs. `ndec annotate recheck "
            f"--distractors {close}` and `ndec annotate push` give the closest ones to annotators"
        )
    return lines
