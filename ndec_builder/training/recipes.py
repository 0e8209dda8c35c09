"""The recipes of the paper's Table 2, and two beyond it, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ndec_builder.core.errors import UsageError, nearest


@dataclass(frozen=True)
class Recipe:
    """What a recipe adds to CosFace over views of basic images (section 4.1).

    crop_norms: the norm-ratio term over views of one image with different content shares (section 4.2).
    pair_norms: the norm-ratio term over the hard negative pairs, latter over former (section 4.3).
    pair_classes: `shared` gives latter and former one class in CosFace (ASL-Positive), `own` gives the latter a class
    of its own (ASL-Negative), `none` leaves the pairs out of training.
    triplet: a triplet loss over the hard negative pairs in the norm-ratio term's place (section 5.4): the former is the
    anchor, its own views are the positives, the latter is the negative. The rest is as in `asl`.
    adding: views that add content take part in the norm terms too, by the share of the original that they still show.
    The paper speaks of crops alone; its published code orders augmented views by the scale of their crop, whatever else
    was done to them.
    copy_norms: the norm-ratio term over each original and every edited copy of it, also where the edit added content or
    took none away. Not in the paper: its rule says nothing on such copies and loses about half of them at ratio 1.
    """

    crop_norms: bool
    pair_norms: bool
    pair_classes: str
    adding: bool = False
    copy_norms: bool = False
    triplet: bool = False

    @property
    def uses_pairs(self) -> bool:
        return self.pair_classes != "none"

    @property
    def trains_norms(self) -> bool:
        return self.crop_norms or self.pair_norms or self.copy_norms

    @property
    def needs_pairs(self) -> bool:
        """Without pairs nothing of the norm term would be left; with crops the pairs are an addition."""
        return (self.pair_norms or self.triplet) and not self.crop_norms


RECIPES = {
    "baseline": Recipe(crop_norms=False, pair_norms=False, pair_classes="none"),
    "asl-crop": Recipe(crop_norms=True, pair_norms=False, pair_classes="none"),
    "asl-positive": Recipe(crop_norms=False, pair_norms=True, pair_classes="shared"),
    "asl-negative": Recipe(crop_norms=False, pair_norms=True, pair_classes="own"),
    "triplet": Recipe(crop_norms=False, pair_norms=False, pair_classes="shared", triplet=True),
    "asl": Recipe(crop_norms=True, pair_norms=True, pair_classes="shared"),
    "asl-code": Recipe(crop_norms=True, pair_norms=True, pair_classes="shared", adding=True),
    "asl-copies": Recipe(crop_norms=True, pair_norms=True, pair_classes="shared", copy_norms=True),
}


def recipe_named(name: str) -> Recipe:
    """Look a recipe up. Raises UsageError with the nearest name."""
    if name not in RECIPES:
        raise UsageError(f"the recipe {name!r} is unknown{nearest(name, RECIPES)}; training knows {', '.join(RECIPES)}")
    return RECIPES[name]
