"""`ndec annotate …` as functions: Label Studio between the mined pairs and the decisions.

import ndec_builder as ndec
from ndec_builder import annotate

with annotate.serving(ndec.configure(annotate.ServeConfig, "my-bench")) as server:  # or `ndec annotate serve`
    annotate.push(ndec.configure(annotate.PushConfig, "my-bench", annotators=("alice", "bob")))
    print(server.url)
annotate.pull(ndec.configure(annotate.PullConfig, "my-bench"))
annotate.resolve(ndec.configure(annotate.ResolveConfig, "my-bench"))
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndec_builder.annotation.settings import (
    AutoClearConfig,
    LeaveConfig,
    PullConfig,
    PushConfig,
    RelearnConfig,
    ResolveConfig,
    SendBackConfig,
    ServeConfig,
    StatusConfig,
)
from ndec_builder.annotation.stopping.settings import CertifyConfig, PlanConfig
from ndec_builder.annotation.upkeep.settings import CheckConfig, ForgetConfig
from ndec_builder.api import run_verb

if TYPE_CHECKING:
    from ndec_builder.annotation.label_studio.connection import Connection

__all__ = [
    "AutoClearConfig",
    "CertifyConfig",
    "CheckConfig",
    "ForgetConfig",
    "LeaveConfig",
    "PlanConfig",
    "PullConfig",
    "PushConfig",
    "RelearnConfig",
    "ResolveConfig",
    "SendBackConfig",
    "ServeConfig",
    "StatusConfig",
    "auto_clear",
    "certify",
    "check",
    "forget",
    "leave",
    "plan",
    "pull",
    "push",
    "relearn",
    "resolve",
    "send_back",
    "serve",
    "serving",
    "status",
]


def serve(config: ServeConfig) -> None:
    """Run Label Studio and the image server in the foreground until Ctrl-C; on loopback by default."""
    from ndec_builder.annotation.serve import run

    run(config)


def serving(config: ServeConfig) -> AbstractContextManager[Connection]:
    """The same as a context manager: both servers run inside `with`; the connection has `.url` and `.user`."""
    from ndec_builder.annotation.serve import serving as context

    return context(config)


def push(config: PushConfig) -> Path:
    """Give the pairs of a round to annotators, one project each; returns tasks.parquet. Never assigns a pair twice."""
    return run_verb("push", config)


def leave(config: LeaveConfig) -> Path:
    """An annotator stops: the open pairs go to others, the labels stay; returns tasks.parquet."""
    return run_verb("leave", config)


def send_back(config: SendBackConfig) -> Path:
    """Set an annotator's labels aside, all or since a time; the pairs go to others. Returns set_aside.parquet."""
    return run_verb("send-back", config)


def pull(config: PullConfig) -> Path:
    """Fetch new labels into the append-only labels.parquet and return it."""
    return run_verb("pull", config)


def check(config: CheckConfig) -> Path:
    """Verify the append-only tables, and compare them with Label Studio if it runs; returns check.json."""
    return run_verb("check", config)


def forget(config: ForgetConfig) -> Path:
    """Replace an annotator's name by a pseudonym everywhere; returns the record of it, which has no name."""
    return run_verb("forget", config)


def auto_clear(config: AutoClearConfig) -> Path:
    """Discard what the pre-label calls edited copies, if a random slice proves it; returns the split's folder."""
    return run_verb("auto-clear", config)


def relearn(config: RelearnConfig) -> Path:
    """Learn pre-labels from the labels given so far; returns prelabels.parquet."""
    return run_verb("relearn", config)


def certify(config: CertifyConfig) -> Path:
    """Say how many labels certify a recall of the hard negatives; returns certificate.json."""
    return run_verb("certify", config)


def plan(config: PlanConfig) -> Path:
    """Forecast what each way of labelling costs and keeps (SIMULATED from the pilot's labels); returns plan.json."""
    return run_verb("plan", config)


def resolve(config: ResolveConfig) -> Path:
    """One decision per pair, and agreement figures; returns decisions.parquet."""
    return run_verb("resolve", config)


def status(config: StatusConfig) -> list[dict[str, Any]]:
    """Per annotator and round: pairs done and left, pairs per hour."""
    from ndec_builder.annotation.status import status as rows

    return rows(config)
