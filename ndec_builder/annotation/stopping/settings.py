"""Settings of `ndec annotate certify | plan`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.candidates.settings import SPLIT_HELP
from ndec_builder.core.config import Config, option, setting
from ndec_builder.core.vocabulary import SPLITS


@dataclass(frozen=True)
class CertifyConfig(Config):
    """`ndec annotate certify`: where a review by descending probability may stop."""

    workspace: Path
    split: str = option("test", SPLIT_HELP, choices=SPLITS)
    recall: float = setting(0.8, "Share of all hard negatives that must be labelled.", gt=0, lt=1)
    confidence: float = setting(0.95, "Confidence of the statement.", gt=0, lt=1)
    error: float | None = setting(
        None,
        "Probability, at most, that a pair that is no hard negative is labelled as one; default: measured on gold "
        "pairs, else 0.03.",
        ge=0,
        lt=1,
    )
    again: bool = option(
        False, "Replace a certificate that exists; each one may err a quarter as often as the one before."
    )


@dataclass(frozen=True)
class PlanConfig(Config):
    """`ndec annotate plan`: which way of labelling gives the most clean hard negatives; a SIMULATED forecast."""

    workspace: Path
    split: str = option("test", SPLIT_HELP, choices=SPLITS)
    budget: int = option(0, "Labels that you can still pay: the way that keeps the most hard negatives with them.")
    goal: int = option(0, "Hard negatives that you need: the way that gives them with the fewest labels.")
    draws: int = setting(20, "Simulated truths behind the forecast.", ge=1, le=1000)
    seed: int = setting(0, "Seed of the simulation.")
