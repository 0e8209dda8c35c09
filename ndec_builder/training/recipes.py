"""The recipes of the paper's Table 2, and two beyond it, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ndec_builder.core.errors import UsageError, nearest


@dataclass(frozen=True)
class TrainingRecipe:
    """What a recipe adds to CosFace over views of basic images (section 4.1; the paper calls training images basic).

    crop_norms: the norm-ratio term over views of one image with different content shares (section 4.2).
    pair_norms: the norm-ratio term over the hard negative pairs, latter over former (section 4.3).
    pair_classes: `shared` gives latter and former one class in CosFace (ASL-Positive), `own` gives the latter a class
    of its own (ASL-Negative), `none` leaves the pairs out of training.
    triplet: a triplet loss over the hard negative pairs instead of the norm-ratio term (section 5.4): the former is the
    anchor, its own views are the positives, the latter is the negative. The rest is as in `asl`.
    adding: views that add content are in the norm terms too, ordered by the share of the original that they show.
    The paper describes crops only; its published code orders augmented views by the scale of their crop, whatever other
    edits they have.
    copy_norms: the norm-ratio term over each original and every edited copy of it, even if the edit added content or
    removed none. Not in the paper: its rule does not cover such copies and loses about half of them at ratio 1.
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
        """Whether the recipe has no norm term without pairs."""
        return (self.pair_norms or self.triplet) and not self.crop_norms


TRAINING_RECIPES = {
    "baseline": TrainingRecipe(crop_norms=False, pair_norms=False, pair_classes="none"),
    "asl-crop": TrainingRecipe(crop_norms=True, pair_norms=False, pair_classes="none"),
    "asl-positive": TrainingRecipe(crop_norms=False, pair_norms=True, pair_classes="shared"),
    "asl-negative": TrainingRecipe(crop_norms=False, pair_norms=True, pair_classes="own"),
    "triplet": TrainingRecipe(crop_norms=False, pair_norms=False, pair_classes="shared", triplet=True),
    "asl": TrainingRecipe(crop_norms=True, pair_norms=True, pair_classes="shared"),
    "asl-code": TrainingRecipe(crop_norms=True, pair_norms=True, pair_classes="shared", adding=True),
    "asl-copies": TrainingRecipe(crop_norms=True, pair_norms=True, pair_classes="shared", copy_norms=True),
}


def recipe_named(name: str) -> TrainingRecipe:
    """Look a recipe up. Raises UsageError with the nearest name."""
    if name not in TRAINING_RECIPES:
        close = nearest(name, TRAINING_RECIPES)
        raise UsageError(f"the recipe {name!r} is unknown{close}; it is one of {', '.join(TRAINING_RECIPES)}")
    return TRAINING_RECIPES[name]
