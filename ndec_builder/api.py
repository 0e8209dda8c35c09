"""The verbs of the command line as functions on the same configs, for notebooks and scripts.

    import ndec_builder as ndec

    config = ndec.configure(ndec.MineConfig, "my-bench", top=1000)   # defaults < my-bench/ndec.toml < arguments
    candidates = ndec.mine(config)                                   # the path that `ndec mine` prints

You can also construct a config directly (`ndec.MineConfig(workspace=Path("my-bench"))`); then `ndec.toml` is not read.
All verbs raise NdecError (`.exit_code` 1), UsageError (2) or GapsError (3: finished, with gaps) with one paragraph of
text. The verbs of annotation are in `ndec.annotate`.
"""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndec_builder.commands import COMMANDS, Command
from ndec_builder.core.config import ConfigT, as_typed, build, read_settings
from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.core.executor.settings import ENGINE_SECTION, EngineConfig

if TYPE_CHECKING:
    import pandas

    from ndec_builder.candidates.settings import MineConfig, PrelabelConfig, RecheckConfig
    from ndec_builder.demo.corpus.settings import CorpusConfig
    from ndec_builder.edits.settings import EditConfig
    from ndec_builder.embeddings.settings import DescriptorsConfig, EmbedConfig
    from ndec_builder.evaluation.settings import BenchmarkConfig, PaperConfig, ResultsConfig
    from ndec_builder.league.settings import LeagueConfig
    from ndec_builder.manifests.settings import ExportConfig, FetchConfig, ValidateConfig
    from ndec_builder.sources.settings import IngestConfig
    from ndec_builder.training.fused.settings import FusedConfig
    from ndec_builder.training.settings import TrainConfig


def configure(
    config: type[ConfigT], workspace: Path | str | None = None, *, file: Path | str | None = None, **settings: Any
) -> ConfigT:
    """Make a config: its defaults, then its section of the settings file, then `settings` that are not None.

    `workspace`: directory of the benchmark, for configs that have one · `file`: settings file, default
    WORKSPACE/ndec.toml. Strings become paths and lists become tuples where the field needs it. Raises UsageError for an
    unknown setting (with the nearest name) and for a bad value, NdecError for a `file` that does not exist.

    >>> from ndec_builder.candidates.settings import MineConfig
    >>> configure(MineConfig, "my-bench", top=500).top
    500
    >>> configure(MineConfig, "my-bench", topp=500)
    Traceback (most recent call last):
    ndec_builder.core.errors.UsageError: MineConfig has no setting 'topp'; did you mean 'top'? ...
    """
    fields = {field.name: field for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    if unknown := sorted(set(settings) - set(fields)):
        raise UsageError(
            f"{config.__name__} has no setting {unknown[0]!r}{nearest(unknown[0], fields, '.')} Known: "
            f"{', '.join(fields)}"
        )
    if workspace is not None and "workspace" in fields:
        settings["workspace"] = Path(workspace)
    hints = typing.get_type_hints(config)
    typed = {
        name: as_typed(value, hints[name], f"{config.__name__}.{name}")
        for name, value in settings.items()
        if value is not None
    }
    required = [name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING]
    given = [name for name in required if name not in typed]
    if given:
        raise UsageError(f"{config.__name__} needs {' and '.join(given)}; give {'it' if len(given) == 1 else 'them'}")
    if file is not None and not Path(file).is_file():
        raise NdecError(f"the settings file {file} does not exist; `ndec init DIR` writes one with every setting")
    values = read_settings(Path(file) if file is not None else Path(workspace or ".") / "ndec.toml")
    _check_sections(values)
    build(EngineConfig, ENGINE_SECTION, values)  # a wrong name there must not be dropped silently
    return build(config, _command_of(config).section, values, **typed)


def _check_sections(values: dict[str, Any]) -> None:
    """Raise UsageError for an unknown section: otherwise a typo would silently drop its settings."""
    known = {
        ENGINE_SECTION,
        *(section for command in COMMANDS.values() for section in (command.section, *command.also)),
    }
    parents = {section.partition(".")[0] for section in known if "." in section}
    for name, value in values.items():
        inner = value if name in parents and isinstance(value, dict) else {}
        for section in [f"{name}.{part}" for part in inner] or [name]:
            if section not in known | parents:
                raise UsageError(
                    f"unknown section [{section}] in the settings file{nearest(section, known, '.')} Known: "
                    f"{', '.join(sorted(known))}"
                )


def _command_of(config: type[Any]) -> Command:
    for command in COMMANDS.values():
        if command.config == config.__name__:
            return command
    raise UsageError(
        f"{config.__name__} has no section in ndec.toml: construct it directly. Configs with a section: "
        f"{', '.join(command.config for command in COMMANDS.values())}"
    )


def corpus(config: CorpusConfig) -> Path:
    """`ndec corpus fetch`: download the mini corpus by package name, arrange it by role; returns the images folder."""
    return run_verb("corpus", config)


def ingest(config: IngestConfig) -> Path:
    """`ndec ingest`: list a source's images under a role; returns images/<role>.parquet (schema IMAGES)."""
    return run_verb("ingest", config)


def ingest_descriptors(config: DescriptorsConfig) -> Path:
    """`ndec ingest --kind descriptors`: use the vectors of an ISC2021 HDF5 file; returns their folder."""
    return run_verb("descriptors", config)


def edit(config: EditConfig) -> Path:
    """`ndec edit`: make edited copies as queries, every parameter recorded; returns images/query.parquet."""
    return run_verb("edit", config)


def embed(config: EmbedConfig) -> Path:
    """`ndec embed`: a role's images → (n, d) float16 L2-normed vectors with float32 norms; returns their folder.

    Resumes where it stopped; any number of workers gives the same bytes.
    """
    return run_verb("embed", config)


def mine(config: MineConfig) -> Path:
    """`ndec mine`: the exact global top pairs, pool × reference or pool × basic; returns candidates/<split>/.

    Order: score descending, query_id, reference_id. Ingests and embeds missing images; a rerun with the same inputs and
    settings does nothing.
    """
    return run_verb("mine", config)


def prelabel(config: PrelabelConfig) -> Path:
    """`ndec prelabel`: probability that each mined pair is an edited copy, 0–1; returns candidates.parquet."""
    return run_verb("prelabel", config)


def recheck(config: RecheckConfig) -> Path:
    """`ndec annotate recheck`: search each kept query against all references; returns recheck.parquet."""
    return run_verb("recheck", config)


def export(config: ExportConfig) -> Path:
    """`ndec export`: decisions → the dataset; returns manifests/<name>-<version>/."""
    return run_verb("export", config)


def validate(config: ValidateConfig) -> Path:
    """`ndec validate`: recompute every count, hash and key; returns the dataset's directory if it is valid."""
    return run_verb("validate", config)


def fetch(config: FetchConfig) -> Path:
    """`ndec fetch`: download the images of an attribution-only dataset; returns its directory."""
    return run_verb("fetch", config)


def train_asl(config: TrainConfig) -> Path:
    """`ndec train-asl`: train with the norm ratio (equations 1 and 2 of the paper) and CosFace; returns runs/<name>/.

    It contains checkpoint.safetensors and .json, metrics.jsonl. Resumes where it stopped.
    """
    return run_verb("train-asl", config)


def train_fused(config: FusedConfig) -> Path:
    """`ndec train-asl --recipe fused`: fit the scorer that combines descriptor and geometry; returns runs/<name>/."""
    return run_verb("train-fused", config)


def benchmark(config: BenchmarkConfig) -> Path:
    """`ndec benchmark`: evaluate a detector; returns the report's directory.

    It contains metrics.json (every number with its 95 % interval), predictions.csv, report.html.
    """
    return run_verb("benchmark", config)


def paper(config: PaperConfig) -> Path:
    """`ndec benchmark --table | --figure`: the paper's tables 1–2, figures 6–8 on a dataset; returns the folder."""
    return run_verb("paper", config)


def run_league(config: LeagueConfig) -> Path:
    """`ndec league`: compare duplicate finders with and without hard negatives; returns the report's directory.

    It contains league.json, league.md, report.html, predictions/. With `bank` it counts false matches of a hash bank.
    """
    return run_verb("league", config)


def export_results(config: ResultsConfig) -> Path:
    """`ndec export-results`: a report's predictions or descriptors as csv, TREC or HDF5; returns the file."""
    return run_verb("export-results", config)


def tables(name: str, place: Path | str, *, split: str | None = None) -> pandas.DataFrame:
    """A table as a pandas DataFrame with Arrow-backed columns: types, nulls and rows are those of the file.

    `place`: the directory of a workspace, a dataset (`manifests/NAME-VERSION`) or a report. A dataset has the tables
    `queries`, `references`, `ground_truth`, `train_basic`, `train_pairs` and `train_pair_images`; a report has
    `predictions`; a workspace has `images` (of all roles), `edits`, `ground_truth` and `pairs`, and for each split
    `candidates`, `geometry`, `tasks`, `labels`, `decisions`, `skips` and the other files of `annotation/SPLIT`, with a
    first column `split` unless they have one. `split` reads only that split. Rows have the order of the files. Raises
    UsageError for an unknown name, with the names that exist there.
    """
    from ndec_builder.evaluation.dataframes import dataframe  # imports pandas: too slow for the start

    return dataframe(name, Path(place), split)


def run_verb(verb: str, config: Any) -> Path:
    """Run a verb. Raises UsageError for a config of a different verb, before anything heavy is imported."""
    command = COMMANDS[verb]
    if not isinstance(config, command.config_class()):
        raise UsageError(f"{verb} runs on a {command.config}, got {config!r:.80}; create one with `ndec.configure`")
    path: Path = command.run(config)
    return path
