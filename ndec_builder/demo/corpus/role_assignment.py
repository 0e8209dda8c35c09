"""Assign roles: each group goes completely to test or train, each picture gets at most one role. Pure, from a seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ndec_builder.core.errors import NdecError

_Item = TypeVar("_Item")
MIN_PICTURES = 12  # the smallest number that fills the roles of both splits
_CROPPED_PHOTOS = 2 / 3  # share of a split's single photos that become reverse crops; the rest become originals
_ENOUGH = 20  # with at least this many look-alikes, a split gets at most a third as many reverse crops
_LARGE, _HUGE = (
    6,
    12,
)  # from _LARGE members on a group gives two gallery pictures, from _HUGE on up to six pool pictures, not three


@dataclass(frozen=True)
class PictureCard:
    """A deduplicated picture. Pictures of one `unit` (a group, or all shots of a film) go to the same split."""

    image_id: str
    group: str
    unit: str
    photo: bool
    typical: float = 0.0  # mean similarity to the rest of its group: the most typical pictures are used first


@dataclass(frozen=True)
class PartCounts:
    """How many pictures each part gets when there are enough."""

    gallery: int  # reference (test) or basic (train), reverse crops and look-alikes included
    natural: int  # pool pictures with a look-alike in the gallery
    crops: int  # pool pictures of which the gallery holds a crop
    copies: int  # edited copies of gallery pictures, planted in the pool
    distractors: int  # pool pictures without a look-alike in the gallery


TEST_COUNTS = PartCounts(gallery=700, natural=300, crops=120, copies=180, distractors=350)
TRAIN_COUNTS = PartCounts(gallery=900, natural=250, crops=100, copies=100, distractors=0)
BACKGROUND_COUNT = 30  # pasted into edits. They have no role, since a copy would rightly match its background


@dataclass(frozen=True)
class Cast:
    """One split's image ids by part, ascending. `natural`, `crops` and `distractors` go to the pool unchanged."""

    gallery: list[str]
    natural: list[str]
    crops: list[str]  # a crop of each joins the gallery with its own id
    copied: list[str]  # of the gallery: an edited copy of each joins the pool
    distractors: list[str]


@dataclass(frozen=True)
class Roles:
    """The parts of both splits, and the pictures reserved as backgrounds."""

    test: Cast
    train: Cast
    backgrounds: list[str]

    @property
    def all_ids(self) -> set[str]:
        """The pictures with a role; one that is copied or cropped is counted once."""
        casts = (self.test, self.train)
        parts = [part for c in casts for part in (c.gallery, c.natural, c.crops, c.distractors)]
        return set(self.backgrounds).union(*parts)


def assign_roles(pictures: Sequence[PictureCard], seed: int, scale: float = 1.0) -> Roles:
    """Give every picture at most one part; photos are used before graphics.

    The choice depends on the pictures and `seed`, not on their order. `scale` multiplies the numbers; with too few
    pictures they shrink further. Raises NdecError for fewer than MIN_PICTURES.
    """
    if len(pictures) < MIN_PICTURES:
        raise NdecError(f"{len(pictures)} distinct pictures cannot fill the roles; bring at least {MIN_PICTURES}")
    rng = np.random.default_rng([seed, 1])
    groups: dict[str, list[PictureCard]] = defaultdict(list)
    for picture in sorted(pictures, key=lambda p: p.image_id):
        groups[picture.group].append(picture)
    together = Counter(picture.unit for picture in pictures)
    families = [
        sorted(_shuffled(members, rng), key=lambda picture: -picture.typical)
        for members in groups.values()
        if len(members) > 1
    ]
    families = [families[int(i)] for i in rng.permutation(len(families))]
    families.sort(key=lambda members: not members[0].photo)
    alone = [members[0] for members in groups.values() if len(members) == 1]
    singles = _photos_first([picture for picture in alone if together[picture.unit] == 1], rng)
    kept_back = singles[:: max(12, round(len(singles) / max(1, BACKGROUND_COUNT * scale)))]
    singles = [picture for picture in singles if picture not in set(kept_back)]
    bound = [picture for picture in alone if together[picture.unit] > 1]  # e.g. the only remaining frame of a shot
    units = list(dict.fromkeys([members[0].unit for members in families] + [picture.unit for picture in bound]))
    of_test = set(_deal(units, TEST_COUNTS.natural / (TEST_COUNTS.natural + TRAIN_COUNTS.natural))[0])
    sides = [[members for members in families if (members[0].unit in of_test) is test] for test in (True, False)]
    need = [_singles_needed(numbers, scale) for numbers in (TEST_COUNTS, TRAIN_COUNTS)]
    hands = [
        hand + [picture for picture in bound if (picture.unit in of_test) is test]
        for hand, test in zip(_deal(singles, need[0] / sum(need)), (True, False), strict=True)
    ]
    fit = min(scale, scale * len(singles) / sum(need))
    test, train = (
        _cast(side, hand, numbers, scale, fit, rng)
        for side, hand, numbers in zip(sides, hands, (TEST_COUNTS, TRAIN_COUNTS), strict=True)
    )
    return Roles(test, train, _ids(kept_back))


def _cast(
    families: list[list[PictureCard]],
    singles: list[PictureCard],
    numbers: PartCounts,
    scale: float,
    fit: float,
    rng: np.random.Generator,
) -> Cast:
    """Fill one split: look-alikes from the families, the other parts from pictures that are alone in their group."""
    gallery, natural, spare = _look_alikes(families, singles, round(numbers.natural * scale))
    crops = max(1, round(numbers.crops * fit))
    if len(natural) >= _ENOUGH:
        crops = min(crops, len(natural) // 3)  # most of what mining finds should be natural look-alikes
    if len(singles) < crops + 2:
        singles = singles + spare  # few scenes: the truth still holds, since a picture keeps its group
    photos = [picture for picture in singles if picture.photo]
    graphics = [picture for picture in singles if not picture.photo]
    cropped = photos[: min(crops, round(len(photos) * _CROPPED_PHOTOS))]
    cropped += graphics[: crops - len(cropped)]
    rest = [picture for picture in singles if picture not in set(cropped)]
    fill = max(1, round(numbers.gallery * fit) - len(gallery) - len(cropped))
    distractors = round(numbers.distractors * fit)
    if len(rest) < fill + distractors:
        fill = -(-len(rest) * fill // (fill + distractors))
    gallery += rest[:fill]
    copies = min(round(numbers.copies * scale), len(gallery) // 3) or min(1, len(gallery))
    return Cast(
        gallery=_ids(gallery),
        natural=_ids(natural),
        crops=_ids(cropped),
        copied=_ids(_photos_first(gallery, rng)[:copies]),
        distractors=_ids(rest[fill : fill + distractors]),
    )


def _look_alikes(
    families: list[list[PictureCard]], singles: list[PictureCard], wanted: int
) -> tuple[list[PictureCard], list[PictureCard], list[PictureCard]]:
    """Return (gallery pictures, their look-alikes for the pool, members left over).

    A family that is no longer needed adds one member to `singles`; no other member of it is used.
    """
    gallery: list[PictureCard] = []
    natural: list[PictureCard] = []
    spare: list[PictureCard] = []
    for members in families:
        first = 2 if len(members) >= _LARGE else 1
        most = min(6 if len(members) >= _HUGE else 3, wanted - len(natural))
        if most > 0:
            gallery += members[:first]
            natural += members[first : first + most]
            spare += members[first + most :]
        else:
            singles.append(members[0])
    return gallery, natural, spare


def _singles_needed(numbers: PartCounts, scale: float) -> float:
    """Gallery pictures that do not come from families (which give about one per two look-alikes), and distractors."""
    return scale * (numbers.gallery - numbers.natural / 2 + numbers.distractors)


def _photos_first(pictures: Sequence[PictureCard], rng: np.random.Generator) -> list[PictureCard]:
    """Photos in random order, then graphics in random order."""
    return sorted(_shuffled(pictures, rng), key=lambda picture: not picture.photo)


def _shuffled(pictures: Sequence[PictureCard], rng: np.random.Generator) -> list[PictureCard]:
    return [pictures[int(i)] for i in rng.permutation(len(pictures))]


def _deal(items: Sequence[_Item], share: float) -> tuple[list[_Item], list[_Item]]:
    """Split a list in order, so that every stretch of it gives `share` of its items to the first part."""
    hands: tuple[list[_Item], list[_Item]] = ([], [])
    for index, item in enumerate(items):
        first = int((index + 1) * share + 0.5) > int(index * share + 0.5)
        hands[0 if first else 1].append(item)
    return hands


def _ids(pictures: Sequence[PictureCard]) -> list[str]:
    return sorted(picture.image_id for picture in pictures)
