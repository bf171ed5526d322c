"""Checks of a series: reasons to refuse it, and reasons only to warn (PS3.3 C.7.6.2, C.7.6.3, C.8.2.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from pydicom.charset import python_encoding

from qdm_med.errors import SeriesError
from qdm_med.io.dicom.file import shown, shown_value, uid_name
from qdm_med.io.dicom.glance import as_written
from qdm_med.io.dicom.header import CT_IMAGE, SliceHeader
from qdm_med.io.dicom.series import place

ORTHONORMAL_TOLERANCE = 1e-3
"""Tolerance of direction cosines about unit length and right angles; scanners write six digits."""
GAP_TOLERANCE_MM = 0.01
"""Differences between slice gaps below this are rounding of the stored positions."""
LINE_TOLERANCE_MM = 0.1
"""Distance of a slice from the line through the first and the last one that is rounding, not another place."""
OBLIQUE_COSINE = 0.99
"""A slice normal with a larger component along a body axis counts as parallel to it (8 degrees)."""

SMALLEST_SLOPE = 1e-4
"""HU per stored unit; no scanner writes finer steps."""
LARGEST_HU = 1e6
"""HU beyond every scanner's extended scale, so that a rescale which reaches them is damaged."""

SMALLEST_MM, LARGEST_MM = 1e-4, 1e5
"""Millimetres beyond the pixels and the table of every scanner."""


def require_readable(headers: list[SliceHeader]) -> None:
    """Refuse a series that cannot be read faithfully.

    Raises:
        SeriesError: With the first reason.
    """
    for reason in refusals(headers):
        raise SeriesError(reason)


def refusals(headers: list[SliceHeader]) -> Iterator[str]:
    """List the reasons to refuse the slices of one series, one line each, the most telling first."""
    yield from filter(None, map(slice_refusal, headers))
    yield from _mixed(headers)


def slice_refusal(header: SliceHeader) -> str | None:
    """Find a reason to refuse one slice, whatever the others are."""
    reason = next(filter(None, (rule(header) for rule in _SLICE_RULES)), None)
    return f"{shown(header.path)}: {reason}" if reason else None


def _mixed(headers: list[SliceHeader]) -> Iterator[str]:
    first = headers[0]
    name = f"series {shown_value(first.series_uid)}"
    patients = len({header.patient for header in headers})
    if patients > 1:
        yield f"{name}: slices of {patients} patients; a series has one (PS3.3 C.7.3.1): separate them"
    frames = len({header.frame_uid for header in headers})
    if frames > 1 and not merged_frames(headers):
        yield f"{name}: {frames} Frames of Reference; a series has one (PS3.3 C.7.4.1.1.1): separate or mend them"
    matrices = sorted({f"{header.rows}x{header.columns}" for header in headers})
    if len(matrices) > 1:
        yield f"{name}: slices of different sizes ({', '.join(matrices)}); separate them"


def merged_frames(headers: list[SliceHeader]) -> tuple[tuple[str, str], ...]:
    """Record that slices each have a Frame of Reference and yet lie in one, as de-identification leaves them.

    That is so where no two slices share one, all have one orientation, and their places lie on a line, no two at one place.

    Returns:
        Name and value of the assumption; nothing if it is not made.
    """
    count = len({header.frame_uid for header in headers})
    if count < 2 or count < len(headers) or any(h.position is None or h.orientation is None for h in headers):
        return ()
    axes = np.stack([header.axes() for header in headers])
    places = np.array([header.position for header in headers])
    along = places @ axes[0, 0]
    order = np.argsort(along)
    gaps = np.diff(along[order])
    share = (along - along[order[0]])[:, None] / max(float(gaps.sum()), GAP_TOLERANCE_MM)
    line = places[order[0]] + share * (places[order[-1]] - places[order[0]])
    agree = np.abs(axes - axes[0]).max() < ORTHONORMAL_TOLERANCE and np.abs(places - line).max() < LINE_TOLERANCE_MM
    return (("Frames of Reference read as one", str(count)),) if agree and gaps.min() > GAP_TOLERANCE_MM else ()


def _object(header: SliceHeader) -> str | None:
    if header.sop_class != CT_IMAGE:
        return f"{uid_name(header.sop_class)} is not supported, only single-frame CT Image Storage; convert it"
    if header.frames > 1:
        return f"NumberOfFrames {header.frames}: multi-frame CT is not supported; split it into single frames"
    if not header.study_uid or not header.series_uid:
        return "no StudyInstanceUID or no SeriesInstanceUID; restore the header"
    return None


def _pixels(header: SliceHeader) -> str | None:
    if header.samples != 1 or not header.photometric.startswith("MONOCHROME"):
        return f"SamplesPerPixel {header.samples}, {shown_value(header.photometric) or 'no'} photometry: CT has one grey sample"
    allocated, stored, high, representation = header.bits
    if allocated != 16:
        return f"BitsAllocated {allocated}: CT Image Storage has 16 (PS3.3 C.8.2.1.1.4); convert the series"
    if stored is None or not 8 <= stored <= 16 or high != stored - 1:
        return f"BitsStored {stored}, HighBit {high}: must be 8 to 16 and one less; convert the series"
    if representation not in (0, 1):
        return f"PixelRepresentation {representation}: must be 0 or 1; restore the header"
    return None


def _grid(header: SliceHeader) -> str | None:
    if not header.rows or not header.columns:
        return f"Rows {header.rows}, Columns {header.columns}: must be positive; restore the header"
    if header.spacing is None or min(header.spacing) <= 0:
        said = _values(header.spacing) if header.spacing else as_written(header.path, "PixelSpacing")
        return f"PixelSpacing {said}: two positive numbers are needed; restore the header"
    if header.position is None:
        return _no_numbers(header, "ImagePositionPatient", "place")
    if header.orientation is None:
        return _no_numbers(header, "ImageOrientationPatient", "direction")
    axes = header.axes()
    if not np.allclose(axes @ axes.T, np.eye(3), atol=ORTHONORMAL_TOLERANCE):
        return f"ImageOrientationPatient {_values(header.orientation)}: not two unit vectors at right angles"
    if max(map(abs, (*header.spacing, *header.position))) > LARGEST_MM or min(header.spacing) < SMALLEST_MM:
        return (
            f"PixelSpacing {_values(header.spacing)}, ImagePositionPatient {_values(header.position)}: these are no "
            "millimetres in a patient; restore the header"
        )
    return None


def _rescale(header: SliceHeader) -> str | None:
    slope, intercept = header.rescale
    if not slope:
        return f"RescaleSlope {as_written(header.path, 'RescaleSlope')}: one number, not 0, is needed, HU cannot be computed without it; restore the header"
    if intercept is None:
        written = as_written(header.path, "RescaleIntercept")
        return f"RescaleIntercept {'is absent' if written == 'absent' else written}: one number is needed, HU cannot be computed without it; restore the header"
    if abs(slope) < SMALLEST_SLOPE or abs(slope) * 2**16 + abs(intercept) > LARGEST_HU:
        return (
            f"RescaleSlope {slope:g}, RescaleIntercept {intercept:g}: these are no Hounsfield units; restore the header"
        )
    # Type 1C: absent means HU (PS3.3 C.8.2.1).
    if header.rescale_type not in ("", "HU"):
        return (
            f"RescaleType {shown_value(header.rescale_type)}: only HU can be super-resolved; convert the series to HU or, if "
            "its values are HU, say so with --rescale-type-is-hu"
        )
    return None


_SLICE_RULES: tuple[Callable[[SliceHeader], str | None], ...] = (_object, _pixels, _grid, _rescale)


def warnings_about(headers: list[SliceHeader]) -> list[str]:
    """Warn of the oddities of a readable series whose slices are in order, one line each."""
    return [line for rule in _SERIES_RULES if (line := rule(headers))]


def _tilted(headers: list[SliceHeader]) -> str | None:
    tilts = sorted({header.tilt for header in headers if header.tilt})
    if tilts:
        return f"gantry tilt of {tilts[0]:g} degrees: slices are processed one by one, the tilt is kept"
    first, last = np.array(headers[0].position), np.array(headers[-1].position)
    along = abs(float(np.dot(headers[0].axes()[0], last - first)))
    if np.linalg.norm(last - first) > 1.001 * along + GAP_TOLERANCE_MM:
        return "slices are shifted against each other (tilted gantry): they are processed one by one, the shift is kept"
    return None


def _oblique(headers: list[SliceHeader]) -> str | None:
    if np.abs(headers[0].axes()[0]).max() < OBLIQUE_COSINE:
        return "oblique slices: they are processed in their own plane"
    return None


def _gaps(headers: list[SliceHeader]) -> str | None:
    gaps = gaps_mm(headers)
    gaps = gaps[gaps > GAP_TOLERANCE_MM]
    if not gaps.size:
        return None
    usual = float(np.median(gaps))
    odd = gaps[np.abs(gaps - usual) > max(GAP_TOLERANCE_MM, 0.02 * usual)]
    if not odd.size:
        return None
    return (
        f"{odd.size} of {gaps.size} slice gaps differ from the usual {usual:g} mm ({odd.min():g} to {odd.max():g} mm): "
        "slices are missing or unevenly spaced; they are processed one by one"
    )


def _duplicates(headers: list[SliceHeader]) -> str | None:
    repeated = int((gaps_mm(headers) <= GAP_TOLERANCE_MM).sum())
    return f"{repeated} slices lie where another one lies: all are kept" if repeated else None


def _varying(headers: list[SliceHeader]) -> str | None:
    different = {
        "orientation": len({header.orientation for header in headers}),
        "pixel spacing": len({header.spacing for header in headers}),
        "rescale": len({header.rescale for header in headers}),
    }
    varying = [name for name, count in different.items() if count > 1]
    return f"{', '.join(varying)} varies between slices: each slice keeps its own" if varying else None


def _lossy(headers: list[SliceHeader]) -> str | None:
    lossy = sum(header.lossy for header in headers)
    return f"{lossy} slices went through lossy compression" if lossy else None


def _frames(headers: list[SliceHeader]) -> str | None:
    merged = merged_frames(headers)
    if not merged:
        return None
    return (
        f"{merged[0][1]} Frames of Reference, one a slice: positions and orientations agree, they are read as one, and the "
        "output has one of its own"
    )


def _rescale_types(headers: list[SliceHeader]) -> str | None:
    said = {header.said_type for header in headers if header.said_type}
    return f"RescaleType {shown_value(min(said))} is read as HU, as --rescale-type-is-hu says" if said else None


def _burned_in(headers: list[SliceHeader]) -> str | None:
    marked = sum(header.burned_in for header in headers)
    return f"{marked} slices are marked as showing burned-in text or a recognizable face" if marked else None


def _character_sets(headers: list[SliceHeader]) -> str | None:
    unknown = {name for header in headers for name in header.character_sets} - python_encoding.keys()
    if not unknown:
        return None
    return f"unknown character set {shown_value(min(unknown))}: texts are copied byte for byte"


_SERIES_RULES: tuple[Callable[[list[SliceHeader]], str | None], ...] = (
    _tilted,
    _oblique,
    _gaps,
    _duplicates,
    _varying,
    _lossy,
    _burned_in,
    _frames,
    _rescale_types,
    _character_sets,
)


def gaps_mm(headers: list[SliceHeader]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Distances between neighbouring slices along the normal, ``(slices - 1,)`` mm."""
    return np.diff([place(header, headers[0]) for header in headers])


def _no_numbers(header: SliceHeader, keyword: str, what: str) -> str:
    written = as_written(header.path, keyword)
    return f"{keyword} is absent or no {what}{'' if written == 'absent' else f' ({written})'}; restore the header"


def _values(numbers: tuple[float, ...] | None) -> str:
    return "absent" if numbers is None else "\\".join(f"{number:g}" for number in numbers)
