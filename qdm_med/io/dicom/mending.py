"""Corrections by a user who knows the Hounsfield units better than the header; applied in reading, recorded in the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qdm_med.io.dicom.file import shown_value
from qdm_med.io.dicom.header import SliceHeader


@dataclass(frozen=True)
class Mending:
    """Values to believe in place of the header's.

    Attributes:
        hu_offset: Added to every value in HU.
        rescale_type_is_hu: Whether values are HU, whatever RescaleType says.
    """

    hu_offset: float = 0.0
    rescale_type_is_hu: bool = False

    def applied(self, header: SliceHeader) -> SliceHeader:
        """Correct a header; absent values stay absent."""
        slope, intercept = header.rescale
        moved = None if intercept is None else intercept + self.hu_offset
        rescale_type = "HU" if self.rescale_type_is_hu else header.rescale_type
        return replace(
            header,
            rescale=(slope, moved),
            rescale_type=rescale_type,
            said_type=header.rescale_type if rescale_type != header.rescale_type else "",
        )

    def assumptions(self, headers: Sequence[SliceHeader]) -> tuple[tuple[str, str], ...]:
        """Assumptions to record in the output; none where nothing was changed."""
        offset = [("HU offset", f"{self.hu_offset:g}")] if self.hu_offset else []
        said = sorted({header.said_type for header in headers if header.said_type})
        return (*offset, *(("RescaleType read as HU", shown_value(each)) for each in said))
