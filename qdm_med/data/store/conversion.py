"""One CT series to references: the part of preparing a store that knows nothing of other series, so that any process can do it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from qdm_med.data.store.references import REFERENCE_SIDE, thumbnail, to_reference, unsuitable
from qdm_med.data.store.slices import HuArray, slice_checksum
from qdm_med.data.store.sources import LeftOut, SourceSeries
from qdm_med.errors import DataError, QdmMedError
from qdm_med.volume import CtSlice, FloatArray, Geometry

PARTS = "parts"
"""Folder in a store that is being made, for what other processes convert; a finished store has none."""


@dataclass(frozen=True)
class Reference:
    """One slice of a series as it may enter a store.

    Attributes:
        index: Its place in the series.
        hu: ``(512, 512)`` int16 HU.
        sha256: :func:`slice_checksum` of them.
        thumbnail: ``(256,)`` HU, see :func:`qdm_med.data.store.references.thumbnail`.
        position_mm: Place along the slice axis.
        pixel_spacing_mm: Of ``hu``.
        resampled: Whether the source's matrix was larger.
    """

    index: int
    hu: HuArray
    sha256: str
    thumbnail: FloatArray
    position_mm: float
    pixel_spacing_mm: float
    resampled: bool


Outcome = Reference | LeftOut
"""Results of a series, one after the other: its slices, and at last why the rest of it is left out, if it is."""

Told = Callable[[str, float], None]
"""Hears, slice by slice, the first file of a series and which share of the series is converted."""

Converting = Callable[[Sequence[SourceSeries], Told], Iterator[tuple[SourceSeries, Iterable[Outcome]]]]
"""Yields what comes of every series, in their order; an :class:`Outcome` is read before the next series is asked for."""


def converted(series: Sequence[SourceSeries], told: Told) -> Iterator[tuple[SourceSeries, Iterable[Outcome]]]:
    """Convert series in this process, one slice at a time."""
    return ((one, references(one, told)) for one in series)


def references(series: SourceSeries, told: Told = lambda first_file, share: None) -> Iterator[Outcome]:
    """Yield the references of a series; its memory is that of one slice.

    Args:
        series: The series.
        told: Told of every slice once the next one is asked for.

    Raises:
        DataError: If the process must end.
    """
    try:
        volume = series.open()
        rows, columns = volume.geometry.shape[1:]
        reason = unsuitable((rows, columns), volume.geometry.spacing[1:])
        if reason is not None:
            yield LeftOut(series.label, reason, len(volume))
            return
        for index in range(len(volume)):
            yield _reference(volume.geometry, index, volume.slices[index])
            told(series.first_file, (index + 1) / len(volume))
    except DataError:
        raise
    except QdmMedError as error:
        yield LeftOut(series.label, f"unreadable: {error}", 0)


def _reference(geometry: Geometry, index: int, ct_slice: CtSlice) -> Reference:
    hu, side = to_reference(ct_slice), geometry.shape[1]
    return Reference(
        index=index,
        hu=hu,
        sha256=slice_checksum(hu),
        thumbnail=thumbnail(hu),
        position_mm=ct_slice.position_mm,
        pixel_spacing_mm=geometry.spacing[1] * side / REFERENCE_SIDE,
        resampled=side != REFERENCE_SIDE,
    )
