"""Settings of `ndec annotate …`. Light: the command line imports this at start."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from ndec_builder.annotation.plans import PLANS, with_plan
from ndec_builder.candidates.settings import SPLIT_HELP
from ndec_builder.core.config import Config, described, option, setting
from ndec_builder.core.errors import UsageError
from ndec_builder.core.vocabulary import FILE_SOURCE, ROUNDS, SPLITS

ORDERS = ("rank", "informative", "copies_last", "likeliest")
DEFAULT_PORT, DEFAULT_IMAGE_PORT = 8700, 8701
URL_HELP = "Label Studio of your own; empty: the one of `ndec annotate serve`, else $LABEL_STUDIO_URL."
TOKEN_HELP = "File with its access token; empty: $LABEL_STUDIO_API_KEY."
IMAGE_URL_HELP = "Address where browsers find the image server; empty: the one of `ndec annotate serve`."
ACCOUNTS_HELP = "own: one Label Studio account per annotator, so labels tell who gave them; shared: one for all."
CHUNK_HELP = "Tasks sent in one request."


@dataclass(frozen=True)
class ServeConfig(Config):
    """`ndec annotate serve`: Label Studio and the image server on this machine."""

    workspace: Path
    port: int = setting(DEFAULT_PORT, "Port of Label Studio.", ge=1, le=65535, result=False)
    image_port: int = setting(DEFAULT_IMAGE_PORT, "Port of the image server.", ge=1, le=65535, result=False)
    host: str = setting(
        "127.0.0.1",
        "Address that both servers listen on; any other address opens the pictures to that network.",
        result=False,
    )
    database: str = setting(
        "", "postgresql://USER@HOST:PORT/NAME; empty: $NDEC_DATABASE_URL, else SQLite.", result=False
    )
    url: str = setting("", "Label Studio that is already running: serve the pictures only.", result=False)
    token_file: str = setting("", TOKEN_HELP, result=False)
    without_backup: bool = option(False, "Start even if no copy of the database can be made before an upgrade.")
    start_seconds: float = setting(300.0, "Seconds that Label Studio may take to start.", result=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.port == self.image_port:
            raise UsageError(f"port and image_port are both {self.port}; give the image server a different port")


@dataclass(frozen=True, kw_only=True)
class DecisionRules(Config):
    """How labels become decisions; the same in [annotate.push] and [annotate.resolve]."""

    plan: str = setting(
        "thorough",
        "thorough: the defaults; economical: fewer labels. It sets the strategy settings that you do not set. Use the "
        "same plan for push, double-check, adjudicate and resolve.",
        choices=tuple(PLANS),
        result=False,
    )

    decide: str = setting(
        "agreement",
        "agreement: annotators agree, or a pair is adjudicated; weighed: label, annotator and pre-label are combined.",
        choices=("agreement", "weighed"),
    )
    tolerance: float = setting(
        0.01,
        "For uncertain pairs and weighed decisions: accepted probability that a pair decided as no copy is a copy.",
        gt=0,
        lt=0.5,
    )
    discard_tolerance: float = setting(
        0.05, "The same for pairs decided as a copy: accepted probability that a pair is no copy.", gt=0, lt=0.5
    )


@with_plan
@dataclass(frozen=True)
class PushConfig(DecisionRules):
    """`ndec annotate push | double-check | adjudicate`: give pairs to annotators."""

    workspace: Path
    split: str = option("test", SPLIT_HELP, choices=SPLITS)
    round: str = option("first", "Round of annotation: first, double_check, adjudication or audit.", choices=ROUNDS)
    annotators: tuple[str, ...] = setting(
        (),
        "Annotator; repeat it for several. Each gets a Label Studio project per round. Default: those with "
        "open pairs of the round, else all of the round, else all of the first, else annotator-1.",
        cli="--annotator",
    )
    overlap: float = setting(
        0.1, "Share of the first round's pairs that several people label, to measure agreement.", ge=0, le=1
    )
    overlap_people: int = setting(2, "Number of people who label those pairs: 2 or 3.", choices=(2, 3))
    double_check: str = setting(
        "hard_negative",
        "Pairs of the second round: hard_negative, all or uncertain.",
        choices=("hard_negative", "all", "uncertain"),
        cli="--which",
    )
    keepable: bool = setting(
        False,
        "Leave out pairs whose query already has an edited copy; other pairs wait for the label of a likelier copy.",
    )
    order: str = setting(
        "rank", "Order of the first round: rank, informative (least certain first), copies_last or likeliest.",
        choices=ORDERS,
    )  # fmt: skip
    count: int = setting(0, "First round: only the next N pairs of that order; 0: all.", ge=0)
    below: float = setting(
        1.0, "First round: only pairs with a lower probability of being an edited copy; 1: all.", gt=0, le=1
    )
    sample: int = setting(0, "First round: only N pairs drawn at random, for `relearn`; 0: all.", ge=0)
    audit_pairs: int = setting(
        550,
        "Audit: kept hard negatives drawn at random for one more annotator; 332 clean ones prove 1 % (of 5,000: 325).",
        ge=1,
        cli="--pairs",
    )
    weighted: bool = option(
        False, "Audit: draw pairs with a doubtful pre-label up to three times as often; decided by the first audit."
    )
    check_pairs: int = setting(
        0,
        "First round: pairs drawn at random above check_above and labelled first, to prove `auto-clear`; 0: none.",
        ge=0,
    )
    check_above: float = setting(0.9, "Probability of an edited copy above which these pairs are drawn.", ge=0.5, lt=1)
    gold: float = setting(
        0.0, "Share of gold pairs in the queues: pairs of known truth, not marked as such; try 0.03.", ge=0, le=0.5
    )
    finish_queries: bool = option(
        False, "First round: only open pairs of queries that have a hard negative and no edited copy (split test)."
    )
    gold_seed: int = setting(0, "Seed for the images of gold pairs and their places in the queues.")
    hints: bool = setting(False, "Show rank, similarity and pre-label on the page; this biases annotators.")
    accounts: str = setting("own", ACCOUNTS_HELP, choices=("own", "shared"), result=False)
    chunk: int = setting(5000, CHUNK_HELP, ge=1, result=False)
    url: str = setting("", URL_HELP, result=False)
    token_file: str = setting("", TOKEN_HELP, result=False)
    image_url: str = setting("", IMAGE_URL_HELP, result=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("keepable", "finish_queries"):
            if getattr(self, name) and self.split != "test":
                raise UsageError(f"{name} is for the split test; in train every hard negative is kept by itself")
        if self.sample and (self.below < 1 or self.finish_queries):
            raise UsageError("sample is a random draw of all pairs; give it without --below and --finish-queries")
        for name in self.annotators:
            check_annotator(name)
        if len(set(self.annotators)) < len(self.annotators):
            raise UsageError(f"an annotator is named twice: {', '.join(self.annotators)}")

    @property
    def narrowing(self) -> dict[str, Any]:
        """The settings by which the first round leaves pairs out on purpose, for `pairs_left_out`."""
        keepable = self.keepable and not self.sample  # a sample is random
        return {"below": self.below, "keepable": keepable, "finish_queries": self.finish_queries}


@dataclass(frozen=True)
class AutoClearConfig(Config):
    """`ndec annotate auto-clear`: discard what the pre-label calls edited copies, if a random slice proves it."""

    workspace: Path
    split: str = option("test", SPLIT_HELP, choices=SPLITS)
    above: float = setting(
        0.9, "Probability of an edited copy above which the slice was drawn: check_above of the push.", ge=0.5, lt=1
    )
    allowed: float = setting(
        0.02, "Share of cleared pairs that may be no copies, as a one-sided 95 % bound.", gt=0, lt=0.5
    )
    undo: bool = option(False, "Give the cleared pairs back to annotators.")
    url: str = setting("", URL_HELP, result=False)
    token_file: str = setting("", TOKEN_HELP, result=False)


@dataclass(frozen=True)
class _Moving(Config):
    """Settings for giving an annotator's pairs to others."""

    files_too: ClassVar[bool] = False  # the annotator may be a file of pairs, `file:NAME`
    workspace: Path
    annotator: str = field(metadata=described("Annotator whose pairs are reassigned.", cli="argument"))
    split: str = option("test", SPLIT_HELP, choices=SPLITS)
    others: tuple[str, ...] = setting(
        (), "Annotator who gets the pairs; repeat it for several. Default: all others of the same round.", cli="--to"
    )
    chunk: int = setting(5000, CHUNK_HELP, ge=1, result=False)
    url: str = setting("", URL_HELP, result=False)
    token_file: str = setting("", TOKEN_HELP, result=False)
    image_url: str = setting("", IMAGE_URL_HELP, result=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (self.annotator, *self.others):
            if not (self.files_too and name == self.annotator and name.startswith(FILE_SOURCE)):
                check_annotator(name)
        if self.annotator in self.others:
            raise UsageError(f"the pairs of {self.annotator} cannot go to {self.annotator} again; name someone else")


@dataclass(frozen=True)
class LeaveConfig(_Moving):
    """`ndec annotate leave`: an annotator stops; the pairs not yet labelled go to others."""


@dataclass(frozen=True)
class SendBackConfig(_Moving):
    """`ndec annotate send-back`: set an annotator's labels aside and give the pairs to others."""

    files_too: ClassVar[bool] = True
    why: str = field(kw_only=True, metadata=described("The reason; it is stored with the labels."))
    since: str = option("", "Only labels given at this time or later, for instance 2026-11-24T10:30.")
    round: str = option("", "Only labels of this round: first, double_check, adjudication or audit.", choices=ROUNDS)
    by: str = option("", "Person who decided it; default: your user name.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.why.strip():
            raise UsageError("say why the labels are sent back: --why TEXT; it is stored with them")
        self.moment  # noqa: B018  # raises for a time that cannot be read

    @property
    def moment(self) -> datetime | None:
        """`since` with its time zone; the zone of this machine if it names none."""
        if not self.since:
            return None
        try:
            return datetime.fromisoformat(self.since).astimezone()
        except ValueError:
            raise UsageError(
                f"since is {self.since!r}; give a time like 2026-11-24T10:30, or with a zone 2026-11-24T10:30+01:00"
            ) from None


@dataclass(frozen=True)
class PullConfig(Config):
    """`ndec annotate pull`: fetch new labels."""

    workspace: Path
    split: str = option("test", SPLIT_HELP, choices=SPLITS)
    everything: bool = option(False, "Compare every label, not only what changed since the last pull.", cli="--all")
    accept_deleted: bool = option(False, "Labels deleted in Label Studio stop counting, even most of a project's.")
    url: str = setting("", URL_HELP, result=False)
    token_file: str = setting("", TOKEN_HELP, result=False)


@dataclass(frozen=True)
class RelearnConfig(Config):
    """`ndec annotate relearn`: learn pre-labels from the labels given so far."""

    workspace: Path
    split: str = option("test", SPLIT_HELP, choices=SPLITS)


@with_plan
@dataclass(frozen=True)
class ResolveConfig(DecisionRules):
    """`ndec annotate resolve`: labels → decisions."""

    workspace: Path
    split: str = option("test", SPLIT_HELP, choices=SPLITS)
    posterior: bool = setting(
        False, "Also write class probabilities of each pair and error rates of each annotator, by Dawid & Skene."
    )


@dataclass(frozen=True)
class StatusConfig(Config):
    """`ndec annotate status`: how much each annotator has done."""

    workspace: Path
    split: str = option("test", SPLIT_HELP, choices=SPLITS)


def check_annotator(name: str) -> None:
    """Raise UsageError for a name that cannot be part of a project's title."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", name):
        raise UsageError(f"annotator {name!r}: a name is up to 40 letters, digits, dots, dashes or underscores")
