"""What the detectors of a table or figure lack: images that could not be used, and queries that a list leaves out."""

from __future__ import annotations

from dataclasses import dataclass, field

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import GapsError
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.detectors.scoring import Scored


@dataclass
class Gaps:
    """notes: a sentence for each gap, printed when it is found · unusable: most images that one detector lacks."""

    notes: list[str] = field(default_factory=list)
    unusable: int = 0

    @property
    def facts(self) -> dict[str, list[str]]:
        """The entry of the JSON file; empty without gaps."""
        return {"gaps": self.notes} if self.notes else {}

    def check(self, name: str, dataset: Dataset, scored: Scored) -> list[str]:
        """The notes about one detector, without its name."""
        found = []
        lost = [f"{image}: {reason}" for side in scored.rejects.values() for image, reason in side.items()]
        if lost:
            found.append(f"{number_of(len(lost), 'image')} could not be used and count as not found (first: {lost[0]})")
        missing = dataset.without_prediction(scored.predictions).total() - len(scored.rejects.get("queries", ()))
        if missing > 0:
            queries = number_of(len(dataset.queries), "query", "queries")
            found.append(f"{missing:,} of {queries} without a prediction: is the list for this dataset?")
        for text in found:
            if (note := f"{name}: {text}") not in self.notes:
                self.notes.append(note)
                say(note)
        self.unusable = max(self.unusable, len(lost))
        return found

    def refuse(self, most: float, dataset: Dataset) -> None:
        """Raise GapsError if a detector lacks more than this share of the images. Call it when all is written."""
        images = len(dataset.queries) + len(dataset.references)
        if self.unusable > most * images:
            raise GapsError(
                f"{self.unusable:,} of {number_of(images, 'image')} could not be used: {'; '.join(self.notes)}. "
                f"Restore the images, or raise max_reject_share ({most:g})"
            )
