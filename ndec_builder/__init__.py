"""ndec: benchmarks with hard negatives for image copy detection, and detectors trained and judged on them.

    import ndec_builder as ndec

    ndec.mine(ndec.configure(ndec.MineConfig, "my-bench", top=1000))    # a verb, on the config of its flags
    ndec.evaluation.micro_average_precision(scores, is_match, positives)  # a metric alone
    ndec.training.NormRatioLoss()                                       # a loss, as a torch module

Importing it loads nothing heavy: a name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy
from ndec_builder.version import __version__ as __version__

if TYPE_CHECKING:
    from ndec_builder import (
        annotate,
        annotation,
        candidates,
        edits,
        embeddings,
        evaluation,
        manifests,
        sources,
        training,
    )
    from ndec_builder.api import (
        benchmark,
        configure,
        corpus,
        edit,
        embed,
        export,
        export_results,
        fetch,
        ingest,
        ingest_descriptors,
        mine,
        paper,
        prelabel,
        recheck,
        train_asl,
        train_fused,
        validate,
    )
    from ndec_builder.candidates.settings import MineConfig, PrelabelConfig, RecheckConfig
    from ndec_builder.core.errors import GapsError, NdecError, UsageError
    from ndec_builder.core.workspace import Workspace
    from ndec_builder.demo.corpus.settings import CorpusConfig
    from ndec_builder.edits.settings import EditConfig
    from ndec_builder.embeddings.settings import DescriptorsConfig, EmbedConfig
    from ndec_builder.evaluation.settings import BenchmarkConfig, PaperConfig, ResultsConfig
    from ndec_builder.manifests.settings import ExportConfig, FetchConfig, ValidateConfig
    from ndec_builder.sources.settings import IngestConfig
    from ndec_builder.training.fused.settings import FusedConfig
    from ndec_builder.training.settings import TrainConfig

__all__ = [
    "BenchmarkConfig",
    "CorpusConfig",
    "DescriptorsConfig",
    "EditConfig",
    "EmbedConfig",
    "ExportConfig",
    "FetchConfig",
    "FusedConfig",
    "GapsError",
    "IngestConfig",
    "MineConfig",
    "NdecError",
    "PaperConfig",
    "PrelabelConfig",
    "RecheckConfig",
    "ResultsConfig",
    "TrainConfig",
    "UsageError",
    "ValidateConfig",
    "Workspace",
    "annotate",
    "annotation",
    "benchmark",
    "candidates",
    "configure",
    "corpus",
    "edit",
    "edits",
    "embed",
    "embeddings",
    "evaluation",
    "export",
    "export_results",
    "fetch",
    "ingest",
    "ingest_descriptors",
    "manifests",
    "mine",
    "paper",
    "prelabel",
    "recheck",
    "sources",
    "train_asl",
    "train_fused",
    "training",
    "validate",
]
__getattr__, __dir__ = lazy(__name__, __file__)
