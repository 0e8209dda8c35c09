"""Settings of the engine that runs shards, the same for all verbs. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ndec_builder.core.config import Config, option, setting

ENGINES = ("local", "ray")
ENGINE_HELP = "local (processes on this machine) or ray (tasks on a cluster)."
ADDRESS_HELP = "Address of a running Ray cluster; empty: $RAY_ADDRESS, else one is started here."
ENGINE_SECTION = "engine"  # of ndec.toml: counts for each verb that has these fields


@dataclass(frozen=True)
class EngineConfig(Config):
    """Where all verbs with shards run: embed, mine, prelabel, recheck, edit, train-asl, benchmark, league.

    Their flags override.
    """

    engine: str = setting("local", ENGINE_HELP, choices=ENGINES, result=False)
    ray_address: str = setting("", ADDRESS_HELP, result=False)


def engine_option() -> Any:
    """The field `engine` of a verb; `[engine]` of ndec.toml sets it for all verbs."""
    return option("local", ENGINE_HELP, choices=ENGINES)


def ray_address_option() -> Any:
    """The field `ray_address` of a verb."""
    return option("", ADDRESS_HELP)
