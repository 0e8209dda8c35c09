"""Where images come from: folders, archives, tables, releases and ground truths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.sources.ground_truth import read_ground_truth as read_ground_truth
    from ndec_builder.sources.settings import IngestConfig as IngestConfig

__getattr__, __dir__ = lazy(__name__, __file__, {"CorpusConfig": "ndec_builder.demo.corpus.settings:CorpusConfig"})
