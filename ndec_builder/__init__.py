"""ndec: benchmarks with hard negatives for image copy detection, and detectors trained and evaluated on them.

    import ndec_builder as ndec

    ndec.mine(ndec.configure(ndec.MineConfig, "my-bench", top=1000))    # a verb and its config
    ndec.evaluation.micro_average_precision(scores, is_match, positives)  # a single metric
    ndec.training.NormRatioLoss()                                       # a loss, as a torch module

The import is light: each name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy
from ndec_builder.version import __version__ as __version__

if TYPE_CHECKING:
    from ndec_builder import annotate as annotate
    from ndec_builder import annotation as annotation
    from ndec_builder import candidates as candidates
    from ndec_builder import edits as edits
    from ndec_builder import embeddings as embeddings
    from ndec_builder import evaluation as evaluation
    from ndec_builder import league as league
    from ndec_builder import manifests as manifests
    from ndec_builder import sources as sources
    from ndec_builder import training as training
    from ndec_builder.api import benchmark as benchmark
    from ndec_builder.api import configure as configure
    from ndec_builder.api import corpus as corpus
    from ndec_builder.api import edit as edit
    from ndec_builder.api import embed as embed
    from ndec_builder.api import export as export
    from ndec_builder.api import export_results as export_results
    from ndec_builder.api import fetch as fetch
    from ndec_builder.api import ingest as ingest
    from ndec_builder.api import ingest_descriptors as ingest_descriptors
    from ndec_builder.api import mine as mine
    from ndec_builder.api import paper as paper
    from ndec_builder.api import prelabel as prelabel
    from ndec_builder.api import recheck as recheck
    from ndec_builder.api import run_league as run_league
    from ndec_builder.api import tables as tables
    from ndec_builder.api import train_asl as train_asl
    from ndec_builder.api import train_fused as train_fused
    from ndec_builder.api import validate as validate
    from ndec_builder.candidates.settings import MineConfig as MineConfig
    from ndec_builder.candidates.settings import PrelabelConfig as PrelabelConfig
    from ndec_builder.candidates.settings import RecheckConfig as RecheckConfig
    from ndec_builder.core.errors import GapsError as GapsError
    from ndec_builder.core.errors import NdecError as NdecError
    from ndec_builder.core.errors import UsageError as UsageError
    from ndec_builder.core.workspace import Workspace as Workspace
    from ndec_builder.demo.corpus.settings import CorpusConfig as CorpusConfig
    from ndec_builder.edits.settings import EditConfig as EditConfig
    from ndec_builder.embeddings.settings import DescriptorsConfig as DescriptorsConfig
    from ndec_builder.embeddings.settings import EmbedConfig as EmbedConfig
    from ndec_builder.evaluation.settings import BenchmarkConfig as BenchmarkConfig
    from ndec_builder.evaluation.settings import PaperConfig as PaperConfig
    from ndec_builder.evaluation.settings import ResultsConfig as ResultsConfig
    from ndec_builder.league.settings import LeagueConfig as LeagueConfig
    from ndec_builder.manifests.settings import CardConfig as CardConfig
    from ndec_builder.manifests.settings import ExportConfig as ExportConfig
    from ndec_builder.manifests.settings import FetchConfig as FetchConfig
    from ndec_builder.manifests.settings import ValidateConfig as ValidateConfig
    from ndec_builder.sources.settings import IngestConfig as IngestConfig
    from ndec_builder.training.fused.settings import FusedConfig as FusedConfig
    from ndec_builder.training.settings import TrainConfig as TrainConfig

__getattr__, __dir__ = lazy(__name__, __file__)
