"""Search, metrics with intervals, the norm-ratio filter, and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.evaluation.dataset import Dataset as Dataset
    from ndec_builder.evaluation.dataset import from_folders as from_folders
    from ndec_builder.evaluation.dataset import from_manifest as from_manifest
    from ndec_builder.evaluation.detectors.search import Background as Background
    from ndec_builder.evaluation.detectors.search import search_pairs as search_pairs
    from ndec_builder.evaluation.metrics.bootstrap import Interval as Interval
    from ndec_builder.evaluation.metrics.bootstrap import intervals as intervals
    from ndec_builder.evaluation.metrics.estimates import gap_figures as gap_figures
    from ndec_builder.evaluation.metrics.norm_ratio_filter import FilteredCut as FilteredCut
    from ndec_builder.evaluation.metrics.norm_ratio_filter import apply_filter as apply_filter
    from ndec_builder.evaluation.metrics.norm_ratio_filter import cut_then_filter as cut_then_filter
    from ndec_builder.evaluation.metrics.norm_ratio_filter import query_over_reference as query_over_reference
    from ndec_builder.evaluation.metrics.norm_ratio_filter import reject as reject
    from ndec_builder.evaluation.metrics.ranked import Cut as Cut
    from ndec_builder.evaluation.metrics.ranked import RankedList as RankedList
    from ndec_builder.evaluation.metrics.ranked import average_precision as average_precision
    from ndec_builder.evaluation.metrics.ranked import curve as curve
    from ndec_builder.evaluation.metrics.ranked import micro_average_precision as micro_average_precision
    from ndec_builder.evaluation.metrics.ranked import pair_numbers as pair_numbers
    from ndec_builder.evaluation.metrics.ranked import precision_at_n as precision_at_n
    from ndec_builder.evaluation.metrics.ranked import rank as rank
    from ndec_builder.evaluation.metrics.ranked import recall_at_precision as recall_at_precision
    from ndec_builder.evaluation.predictions import Predictions as Predictions
    from ndec_builder.evaluation.predictions import read_predictions as read_predictions
    from ndec_builder.evaluation.predictions import write_predictions as write_predictions
    from ndec_builder.evaluation.settings import BenchmarkConfig as BenchmarkConfig
    from ndec_builder.evaluation.settings import PaperConfig as PaperConfig
    from ndec_builder.evaluation.settings import ResultsConfig as ResultsConfig

__getattr__, __dir__ = lazy(
    __name__, __file__, deprecated={"match": "ndec_builder.evaluation.detectors.search:search_pairs"}
)
