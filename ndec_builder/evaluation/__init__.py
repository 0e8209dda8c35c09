"""Search, metrics with intervals, the norm-ratio filter, and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.evaluation.dataset import Dataset, from_folders, from_manifest
    from ndec_builder.evaluation.detectors.search import Background, search_pairs
    from ndec_builder.evaluation.metrics.bootstrap import Interval, intervals
    from ndec_builder.evaluation.metrics.estimates import gap_figures
    from ndec_builder.evaluation.metrics.norm_ratio_filter import (
        FilteredCut,
        apply_filter,
        cut_then_filter,
        query_over_reference,
        reject,
    )
    from ndec_builder.evaluation.metrics.ranked import (
        Cut,
        RankedList,
        average_precision,
        curve,
        micro_average_precision,
        pair_numbers,
        precision_at_n,
        rank,
        recall_at_precision,
    )
    from ndec_builder.evaluation.predictions import Predictions, read_predictions, write_predictions
    from ndec_builder.evaluation.settings import BenchmarkConfig, PaperConfig, ResultsConfig

__all__ = [
    "Background",
    "BenchmarkConfig",
    "Cut",
    "Dataset",
    "FilteredCut",
    "Interval",
    "PaperConfig",
    "Predictions",
    "RankedList",
    "ResultsConfig",
    "apply_filter",
    "average_precision",
    "curve",
    "cut_then_filter",
    "from_folders",
    "from_manifest",
    "gap_figures",
    "intervals",
    "micro_average_precision",
    "pair_numbers",
    "precision_at_n",
    "query_over_reference",
    "rank",
    "read_predictions",
    "recall_at_precision",
    "reject",
    "search_pairs",
    "write_predictions",
]
__getattr__, __dir__ = lazy(
    __name__, __file__, deprecated={"match": "ndec_builder.evaluation.detectors.search:search_pairs"}
)
