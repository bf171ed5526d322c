"""CT series in a tree of files, as the slice store needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from qdm_med.volume import Volume


@dataclass(frozen=True)
class SourceSeries:
    """One series that can be opened.

    Attributes:
        label: Its folder or file relative to the sources, for messages.
        patient: Anonymous key of the patient.
        series: Anonymous key of the series.
        files: Files relative to the sources: one a slice in slice order, or one for all.
        open: Reads the series.
        slice_thickness_mm: Nominal thickness; 0 where unknown.
        kernel: Reconstruction kernel; empty where unknown.
        manufacturer: Scanner vendor; empty where unknown.
    """

    label: str
    patient: str
    series: str
    files: tuple[PurePosixPath, ...]
    open: Callable[[], Volume]
    slice_thickness_mm: float = 0.0
    kernel: str = ""
    manufacturer: str = ""

    def file_of(self, index: int) -> PurePosixPath:
        """The file that slice ``index`` comes from."""
        return self.files[index] if len(self.files) > 1 else self.files[0]
