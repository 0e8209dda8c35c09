"""Settings of `ndec annotate check` and `forget`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ndec_builder.annotation.settings import TOKEN_HELP, URL_HELP
from ndec_builder.candidates.settings import SPLIT_HELP
from ndec_builder.core.config import Config, described, option, setting
from ndec_builder.core.vocabulary import SPLITS


@dataclass(frozen=True)
class CheckConfig(Config):
    """`ndec annotate check`: whether every label that was stored is still there."""

    workspace: Path
    split: str = option("test", SPLIT_HELP, choices=SPLITS)
    url: str = setting("", URL_HELP, result=False)
    token_file: str = setting("", TOKEN_HELP, result=False)


@dataclass(frozen=True)
class ForgetConfig(Config):
    """`ndec annotate forget`: replace an annotator's name by a pseudonym; the labels stay."""

    workspace: Path
    annotator: str = field(metadata=described("Annotator whose name is removed.", cli="argument"))
    offline: bool = option(False, "Do not rename the projects in Label Studio, because that server no longer exists.")
    url: str = setting("", URL_HELP, result=False)
    token_file: str = setting("", TOKEN_HELP, result=False)
