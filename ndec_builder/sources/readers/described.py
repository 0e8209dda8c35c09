"""Images with metadata of their own: id, group, rotation and licence columns, the same for every kind of source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ndec_builder.core.decode import SUFFIXES, read_orientation
from ndec_builder.sources.image_ids import choose_ids, no_value
from ndec_builder.sources.listing import Lister, SourceContents, name_all
from ndec_builder.sources.metadata import (
    ORIENTATIONS,
    described_orientation,
    licence_columns,
    metadata_group,
    metadata_rotation,
)
from ndec_builder.sources.settings import IngestConfig
from ndec_builder.sources.unread import Unread

ORIENTATION_BYTES = 1 << 18  # of a JPEG: its EXIF is in its first segments
FORMATS_WITH_LATE_EXIF = SUFFIXES - {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}  # these may have it at their end


class DescribedImages:
    """Lists images of one role together with their metadata."""

    def __init__(self, config: IngestConfig) -> None:
        self.config = config
        self.lister = Lister(config.role, config.license)
        self.unread = Unread()
        self._mirrored: list[str] = []

    def add(
        self,
        uri: str,
        short: str,
        longer: Sequence[str],
        values: Mapping[str, Any],
        place: str | None,
        *,
        read: Callable[[], bytes],
        problem: str = "",
        id_values: Mapping[str, Any] | None = None,
    ) -> None:
        """Add one image, or reject it when it has a `problem`.

        short, longer: its ids (`image_ids.choose_ids`) · values: its metadata · place: its path below the source
        or in its container, None if unknown · read: returns its first bytes, to see whether they have an EXIF
        orientation · id_values: where the id is looked up if not in `values`.
        """
        image_id, longer = choose_ids(self.config.id, short, longer, values if id_values is None else id_values)
        problem = problem or ("" if image_id else no_value(self.config.id))
        if problem:
            return self.lister.reject(image_id or short, uri, problem, longer=longer)
        try:
            rotation = self._rotation(values, read, image_id)
        except OSError as error:
            return self.lister.reject(image_id, uri, f"cannot read: {error.strerror or error}", longer=longer)
        return self.lister.add(
            image_id,
            uri,
            longer=longer,
            group=metadata_group(values, self.config.group_by),
            place=place,
            rotation=rotation,
            **licence_columns(values),
        )

    def _rotation(self, values: Mapping[str, Any], read: Callable[[], bytes], image_id: str) -> int:
        """Degrees to rotate on top of the EXIF orientation of the file, which counts if there is one."""
        rotation, orientation = metadata_rotation(values), described_orientation(values)
        if orientation is None or read_orientation(read()) != 1:
            return rotation
        degrees = ORIENTATIONS[orientation]
        if degrees is None:
            self._mirrored.append(image_id)
        return (rotation + (degrees or 0)) % 360

    def contents(
        self, gaps: Iterable[str] = (), notes: Iterable[str] = (), inputs: Mapping[str, str] | None = None
    ) -> SourceContents:
        """The finished listing. Raises UsageError when ids repeat in every form."""
        said = [self.unread.note(), *notes]
        if self._mirrored:
            but = "mirrored according to the metadata; ndec rotates but does not mirror"
            said.append(
                name_all(self._mirrored, f"image is {but}, so it stays so", f"images are {but}, so they stay so")
            )
        return SourceContents(
            {self.config.role: self.lister.finish()}, tuple(gaps), inputs=inputs or {}, notes=tuple(said)
        )
