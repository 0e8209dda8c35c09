"""The table of verbs: where their settings and code are. Used by the command line, `ndec init` and the Python API."""

from __future__ import annotations

import contextlib
import importlib
import typing
from dataclasses import dataclass
from typing import Any

from ndec_builder.core.access.hosts import trusted
from ndec_builder.core.config import inner_sections, with_pixel_limit
from ndec_builder.core.console import waiting
from ndec_builder.core.executor.memory import return_freed_memory
from ndec_builder.core.executor.settings import ENGINE_SECTION, EngineConfig
from ndec_builder.core.lazy import no_collections


@dataclass(frozen=True)
class Command:
    """A verb: its section of `ndec.toml`, the light module and name of its config, the module with its `run`."""

    section: str
    settings: str
    config: str
    work: str
    until_stopped: bool = False  # a server: it waits for people, so nothing shows that it is busy
    also: tuple[str, ...] = ()  # sections of `ndec.toml` that fields of its config are read from

    def config_class(self) -> type[Any]:
        cls: type[Any] = getattr(importlib.import_module(f"ndec_builder.{self.settings}"), self.config)
        return cls

    def sections(self) -> dict[str, type[Any]]:
        """Every section of `ndec.toml` that the verb reads, with the config class of each."""
        cls = self.config_class()
        hints = typing.get_type_hints(cls)
        return {self.section: cls} | {section: hints[name] for name, section in inner_sections(cls).items()}

    def run(self, config: Any) -> Any:
        """Run the verb, with the pixel limit of its workspace and the private hosts that its sources are on.

        A full, read-only or failing disk is a WriteError, a file of another user an NdecError.
        """
        try:
            with trusted(config):
                with waiting("loading"), no_collections():
                    work = importlib.import_module(f"ndec_builder.{self.work}").run
                with contextlib.nullcontext() if self.until_stopped else waiting(self.section.replace(".", " ")):
                    return with_pixel_limit(work)(config)
        except OSError as error:
            from ndec_builder.core.storage import disk_error  # imports pyarrow: too slow for the start

            raise disk_error(error) or error from error
        finally:
            return_freed_memory()


COMMANDS = {
    "corpus": Command("corpus", "demo.corpus.settings", "CorpusConfig", "demo.corpus.build"),
    "ingest": Command("ingest", "sources.settings", "IngestConfig", "sources.ingest"),
    "descriptors": Command("descriptors", "embeddings.settings", "DescriptorsConfig", "embeddings.ingest_descriptors"),
    "edit": Command("edit", "edits.settings", "EditConfig", "edits.make"),
    "embed": Command("embed", "embeddings.settings", "EmbedConfig", "embeddings.embed"),
    "mine": Command("mine", "candidates.settings", "MineConfig", "candidates.mine"),
    "prelabel": Command("prelabel", "candidates.settings", "PrelabelConfig", "candidates.prelabel"),
    "recheck": Command("recheck", "candidates.settings", "RecheckConfig", "candidates.recheck"),
    "serve": Command("annotate.serve", "annotation.settings", "ServeConfig", "annotation.serve", until_stopped=True),
    "push": Command("annotate.push", "annotation.settings", "PushConfig", "annotation.push"),
    "leave": Command("annotate.leave", "annotation.settings", "LeaveConfig", "annotation.leave"),
    "send-back": Command("annotate.send_back", "annotation.settings", "SendBackConfig", "annotation.send_back"),
    "auto-clear": Command("annotate.auto_clear", "annotation.settings", "AutoClearConfig", "annotation.auto_clear"),
    "pull": Command("annotate.pull", "annotation.settings", "PullConfig", "annotation.pull"),
    "relearn": Command("annotate.relearn", "annotation.settings", "RelearnConfig", "annotation.relearn"),
    "certify": Command(
        "annotate.certify", "annotation.stopping.settings", "CertifyConfig", "annotation.stopping.certify"
    ),
    "plan": Command("annotate.plan", "annotation.stopping.settings", "PlanConfig", "annotation.stopping.plan"),
    "check": Command("annotate.check", "annotation.upkeep.settings", "CheckConfig", "annotation.upkeep.check"),
    "forget": Command("annotate.forget", "annotation.upkeep.settings", "ForgetConfig", "annotation.upkeep.forget"),
    "resolve": Command("annotate.resolve", "annotation.settings", "ResolveConfig", "annotation.resolve"),
    "export": Command("export", "manifests.settings", "ExportConfig", "manifests.export", also=("card",)),
    "validate": Command("validate", "manifests.settings", "ValidateConfig", "manifests.validate"),
    "fetch": Command("fetch", "manifests.settings", "FetchConfig", "manifests.fetch"),
    "train-asl": Command("train", "training.settings", "TrainConfig", "training.train"),
    "train-fused": Command("fused", "training.fused.settings", "FusedConfig", "training.fused.run"),  # --recipe fused
    "paper": Command("benchmark", "evaluation.settings", "PaperConfig", "evaluation.paper.run"),  # --table, --figure
    "benchmark": Command("benchmark", "evaluation.settings", "BenchmarkConfig", "evaluation.benchmark"),
    "league": Command("league", "league.settings", "LeagueConfig", "league.run"),
    "export-results": Command("export-results", "evaluation.settings", "ResultsConfig", "evaluation.export_results"),
}


def settings_sections() -> dict[str, type[Any]]:
    """The sections of `ndec.toml` and their configs."""
    sections: dict[str, type[Any]] = {ENGINE_SECTION: EngineConfig}
    for command in COMMANDS.values():
        sections |= command.sections()
    return sections
