"""Settings of `ndec annotate …`. Light: the command line imports this at start."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ndec_builder.core.config import setting
from ndec_builder.core.errors import UsageError, nearest
from ndec_builder.core.vocabulary import ROUNDS, SPLITS

ORDERS = ("rank", "informative", "copies_last", "likeliest")
DEFAULT_PORT, DEFAULT_IMAGE_PORT = 8700, 8701
URL_HELP = "a Label Studio of your own; empty: that of `ndec annotate serve`, else $LABEL_STUDIO_URL"
TOKEN_HELP = "file with its access token; empty: $LABEL_STUDIO_API_KEY"


@dataclass(frozen=True)
class ServeConfig:
    """`ndec annotate serve`: Label Studio and the image server on this machine."""

    workspace: Path
    port: int = setting(DEFAULT_PORT, "port of Label Studio", result=False)
    image_port: int = setting(DEFAULT_IMAGE_PORT, "port of the image server", result=False)
    host: str = setting(
        "127.0.0.1", "address that both listen on; another one opens the pictures to that network", result=False
    )
    database: str = setting(
        "", "postgresql://USER@HOST:PORT/NAME; empty: $NDEC_DATABASE_URL, else SQLite", result=False
    )
    url: str = setting("", "a Label Studio that runs already: serve the pictures only", result=False)
    token_file: str = setting("", TOKEN_HELP, result=False)
    start_seconds: float = setting(300.0, "how long Label Studio may take to start", result=False)

    def __post_init__(self) -> None:
        for name in ("port", "image_port"):
            if not 1 <= getattr(self, name) <= 65535:
                raise UsageError(f"{name} is {getattr(self, name)}; a port is a number from 1 to 65535")
        if self.port == self.image_port:
            raise UsageError(f"port and image_port are both {self.port}; give the image server another one")


@dataclass(frozen=True, kw_only=True)
class Weighs:
    """How labels become decisions; the same in [annotate.push] and [annotate.resolve]."""

    decide: str = setting(
        "agreement", "agreement: people agree, or adjudicate; weighed: label, annotator and pre-label together"
    )
    tolerance: float = setting(
        0.01, "uncertain pairs, and weighed decisions: what is taken for no copy is one with a higher probability"
    )
    discard_tolerance: float = setting(0.05, "the same of what is taken for a copy and may be none")

    def __post_init__(self) -> None:
        if self.decide not in ("agreement", "weighed"):
            raise UsageError(f"decide is {self.decide!r}; it is 'agreement' or 'weighed'")
        for name in ("tolerance", "discard_tolerance"):
            if not 0 < getattr(self, name) < 0.5:
                raise UsageError(f"{name} is {getattr(self, name)}; it is a probability between 0 and 0.5")


@dataclass(frozen=True)
class PushConfig(Weighs):
    """`ndec annotate push | double-check | adjudicate`: give pairs to annotators."""

    workspace: Path
    split: str = "test"
    round: str = "first"
    annotators: tuple[str, ...] = setting(
        (), "who labels, a Label Studio project each and per round; empty: who does already, else annotator-1"
    )
    overlap: float = setting(0.1, "share of the first round's pairs that several people see, for agreement figures")
    overlap_people: int = setting(2, "how many people see those pairs: 2 or 3")
    double_check: str = setting(
        "hard_negative", "what the second round looks at: hard_negative, all or uncertain pairs"
    )
    keepable: bool = setting(
        False, "leave out pairs of queries that hold an edited copy already; others wait for a likelier copy's label"
    )
    order: str = setting(
        "rank", "of the first round: rank, informative (least certain first), copies_last or likeliest"
    )
    count: int = setting(0, "first round: only the next so many pairs of that order; 0: all")
    below: float = setting(1.0, "first round: only pairs with a lower probability of an edited copy; 1: all")
    sample: int = setting(0, "first round: only so many pairs, drawn at random, to relearn from; 0: all")
    audit_pairs: int = setting(
        550,
        "audit: kept hard negatives drawn at random for one more person; 332 clean ones prove 1 % at any number kept",
    )
    check_pairs: int = setting(
        0, "first round: pairs drawn at random above check_above that people see first, to prove auto-clearing"
    )
    check_above: float = setting(0.9, "probability of an edited copy above which these are drawn")
    gold: float = setting(0.0, "share of gold pairs among what people see: known truth, mixed in unseen; try 0.03")
    gold_seed: int = setting(0, "which images gold pairs are made of, and where they lie in the queues")
    hints: bool = setting(False, "show rank, similarity and pre-label on the page; they bias people")
    chunk: int = setting(5000, "tasks sent in one request", result=False)
    url: str = setting("", URL_HELP, result=False)
    token_file: str = setting("", TOKEN_HELP, result=False)
    image_url: str = setting("", "where browsers find the image server; empty: that of `serve`", result=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_split(self.split)
        check_round(self.round)
        if self.keepable and self.split != "test":
            raise UsageError("keepable is for the split test: in train every hard negative is kept by itself")
        for name in self.annotators:
            check_annotator(name)
        if len(set(self.annotators)) < len(self.annotators):
            raise UsageError(f"an annotator is named twice: {', '.join(self.annotators)}")
        if not 0 <= self.overlap <= 1:
            raise UsageError(f"overlap is {self.overlap}; it is a share between 0 and 1")
        if self.overlap_people not in (2, 3):
            raise UsageError(f"overlap_people is {self.overlap_people}; a pair of the overlap is seen by 2 or 3 people")
        if self.double_check not in ("hard_negative", "all", "uncertain"):
            raise UsageError(f"double_check is {self.double_check!r}; it is 'hard_negative', 'all' or 'uncertain'")
        if self.order not in ORDERS:
            raise UsageError(f"order is {self.order!r}; it is one of {ORDERS}{nearest(self.order, ORDERS)}")
        if self.chunk < 1:
            raise UsageError(f"chunk is {self.chunk}; it is at least 1")
        if self.audit_pairs < 1:
            raise UsageError(f"audit_pairs is {self.audit_pairs}; draw at least 1 pair, 332 to prove a rate of 1 %")
        for name in ("count", "sample"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it is a number of pairs, 0 for all")
        if self.check_pairs < 0:
            raise UsageError(f"check_pairs is {self.check_pairs}; it is a number of pairs, 0 for none")
        check_probability("check_above", self.check_above)
        if not 0 < self.below <= 1:
            raise UsageError(f"below is {self.below}; it is a probability above 0, 1 for all pairs")
        if not 0 <= self.gold <= 0.5:
            raise UsageError(f"gold is {self.gold}; it is a share between 0 and 0.5")


@dataclass(frozen=True)
class AutoClearConfig:
    """`ndec annotate auto-clear`: discard what the pre-label calls edited copies, where a random slice proves it."""

    workspace: Path
    split: str = "test"
    above: float = setting(
        0.9, "probability of an edited copy above which the slice was drawn: check_above of the push"
    )
    allowed: float = setting(0.02, "share of the cleared pairs that may be no copies, as a one-sided 95 % bound")
    undo: bool = False  # give the cleared pairs back to people
    url: str = setting("", URL_HELP, result=False)
    token_file: str = setting("", TOKEN_HELP, result=False)

    def __post_init__(self) -> None:
        check_split(self.split)
        check_probability("above", self.above)
        if not 0 < self.allowed < 0.5:
            raise UsageError(f"allowed is {self.allowed}; it is a share between 0 and 0.5")


@dataclass(frozen=True)
class _Moving:
    """What giving somebody's pairs to others needs."""

    workspace: Path
    annotator: str
    split: str = "test"
    others: tuple[str, ...] = setting((), "who takes them over; empty: everybody else of the same round")
    chunk: int = setting(5000, "tasks sent in one request", result=False)
    url: str = setting("", URL_HELP, result=False)
    token_file: str = setting("", TOKEN_HELP, result=False)
    image_url: str = setting("", "where browsers find the image server; empty: that of `serve`", result=False)

    def __post_init__(self) -> None:
        check_split(self.split)
        for name in (self.annotator, *self.others):
            check_annotator(name)
        if self.annotator in self.others:
            raise UsageError(f"the pairs of {self.annotator} cannot go to {self.annotator} again; name somebody else")


@dataclass(frozen=True)
class LeaveConfig(_Moving):
    """`ndec annotate leave`: somebody stops; the pairs that they have not labelled go to others."""


@dataclass(frozen=True)
class SendBackConfig(_Moving):
    """`ndec annotate send-back`: set somebody's labels aside and give their pairs to others."""

    why: str = field(kw_only=True)  # kept beside the labels
    since: str = ""  # an ISO time; only labels given then or later
    round: str = ""  # only labels of this round
    by: str = ""  # who decided it; empty: the user of this machine

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.why.strip():
            raise UsageError("say why the labels are sent back: --why TEXT; it is kept beside them")
        if self.round:
            check_round(self.round)
        self.moment  # noqa: B018  # raises for a time that cannot be read

    @property
    def moment(self) -> datetime | None:
        """`since` with its time zone; that of this machine where it names none."""
        if not self.since:
            return None
        try:
            return datetime.fromisoformat(self.since).astimezone()
        except ValueError:
            raise UsageError(
                f"since is {self.since!r}; give a time like 2026-11-24T10:30, or with a zone 2026-11-24T10:30+01:00"
            ) from None


@dataclass(frozen=True)
class PullConfig:
    """`ndec annotate pull`: fetch new labels."""

    workspace: Path
    split: str = "test"
    url: str = setting("", URL_HELP, result=False)
    token_file: str = setting("", TOKEN_HELP, result=False)

    def __post_init__(self) -> None:
        check_split(self.split)


@dataclass(frozen=True)
class RelearnConfig:
    """`ndec annotate relearn`: pre-labels from the labels that people gave so far."""

    workspace: Path
    split: str = "test"

    def __post_init__(self) -> None:
        check_split(self.split)


@dataclass(frozen=True)
class ResolveConfig(Weighs):
    """`ndec annotate resolve`: labels → decisions."""

    workspace: Path
    split: str = "test"
    posterior: bool = setting(
        False, "also write what each pair most probably is, and each person's errors, by Dawid & Skene"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_split(self.split)


@dataclass(frozen=True)
class StatusConfig:
    """`ndec annotate status`: who has done how much."""

    workspace: Path
    split: str = "test"

    def __post_init__(self) -> None:
        check_split(self.split)


def check_split(split: str) -> None:
    if split not in SPLITS:
        raise UsageError(f"split {split!r} is unknown; it is one of {SPLITS}{nearest(split, SPLITS)}")


def check_probability(name: str, value: float) -> None:
    if not 0.5 <= value < 1:
        raise UsageError(f"{name} is {value}; it is a probability of at least 0.5 and below 1")


def check_annotator(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", name):
        raise UsageError(f"annotator {name!r}: a name is up to 40 letters, digits, dots, dashes or underscores")


def check_round(round_: str) -> None:
    if round_ not in ROUNDS:
        raise UsageError(f"round {round_!r} is unknown; it is one of {ROUNDS}{nearest(round_, ROUNDS)}")
