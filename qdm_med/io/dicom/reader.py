"""Reader of DICOM CT series: a volume whose slices are read when they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qdm_med.errors import SeriesError
from qdm_med.files import partial_path
from qdm_med.io.dicom.checks import gaps_mm, merged_frames, require_readable, slice_refusal, warnings_about
from qdm_med.io.dicom.file import quiet, read_dataset, shown
from qdm_med.io.dicom.grid_bound import grid_bound_names
from qdm_med.io.dicom.header import SliceHeader
from qdm_med.io.dicom.mending import Mending
from qdm_med.io.dicom.pixels import decode_stored
from qdm_med.io.dicom.rescale import in_ranges
from qdm_med.io.dicom.series import choose_series, left_out_line, place, scan, sort_slices, without_copies
from qdm_med.volume import CtSlice, Geometry, Provenance, Volume


class DicomSlices:
    """Slices of a DICOM series, each read from its file when it is indexed.

    Args:
        headers: Headers of acceptable slices, in order.
        series_numbers: Series numbers that are taken in the folder that the series came from.
    """

    def __init__(self, headers: list[SliceHeader], series_numbers: frozenset[int]) -> None:
        self.headers = tuple(headers)
        self.series_numbers = series_numbers

    def __len__(self) -> int:
        return len(self.headers)

    @property
    def frames(self) -> int:
        """Number of Frames of Reference that the slices name."""
        return len({header.frame_uid for header in self.headers})

    def thickness_mm(self) -> tuple[float, ...]:
        """The slice thicknesses that occur, in mm; none if the source does not say."""
        return tuple(sorted({header.thickness for header in self.headers if header.thickness}))

    @quiet()
    def __getitem__(self, index: int) -> CtSlice:
        header = self.headers[index]
        stored = decode_stored(read_dataset(header.path), header.path)
        pixel_format = header.pixel_format()
        padding = in_ranges(stored, pixel_format.padding_ranges(stored))
        return CtSlice(pixel_format.to_hu(stored), padding, place(header, self.headers[0]))


@quiet()
def read_dicom_series(
    folder: Path,
    *,
    series_uid: str | None = None,
    exclude: Path | None = None,
    force: bool = False,
    skip_bad: bool = False,
    hu_offset: float = 0.0,
    rescale_type_is_hu: bool = False,
) -> Volume:
    """Read the CT series of a folder, or a single file.

    Everything that could later go wrong with a slice is met here: each is decoded once, one after the other.
    Localizers, other modalities and files that are no DICOM are left out and counted in a warning.

    Args:
        folder: Folder, searched to any depth, or one DICOM file.
        series_uid: SeriesInstanceUID, if the folder holds several CT series.
        exclude: An output that may lie inside ``folder``; it and its partial folder are not searched.
        force: Accept a series that this tool has made.
        skip_bad: Leave out slices that cannot be read, and say in a warning how many.
        hu_offset: Added to every value: RescaleIntercept is wrong by so much.
        rescale_type_is_hu: Values are HU, whatever RescaleType says.

    Raises:
        SeriesError: If there is no such series, or it cannot be read faithfully (see :mod:`qdm_med.io.dicom.checks`).
    """
    if not folder.exists():
        raise SeriesError(f"{shown(folder)}: no such file or folder; check --series")
    found = scan(folder, exclude=_excluded(folder, exclude))
    chosen = choose_series(found, folder, series_uid=series_uid, force=force, skip_bad=skip_bad)
    mending = Mending(hu_offset, rescale_type_is_hu)
    unique, refused = _set_apart([mending.applied(header) for header in chosen], skip_bad=skip_bad)
    require_readable(unique)
    headers, undecodable, bound = _decode_all(sort_slices(unique), skip_bad=skip_bad)
    warnings = [
        _skipped_line([*found.damaged, *refused.values(), *undecodable]),
        left_out_line(found, {header.path for header in unique} | refused.keys()),
        *warnings_about(headers),
        bound,
    ]
    provenance = Provenance(
        source_format="dicom",
        series_key=headers[0].series_uid,
        files=tuple(header.path for header in headers),
        warnings=tuple(line for line in warnings if line),
        assumptions=(*mending.assumptions(headers), *merged_frames(headers)),
    )
    return Volume(DicomSlices(headers, found.series_numbers()), geometry_of(headers), provenance)


def _set_apart(chosen: list[SliceHeader], *, skip_bad: bool) -> tuple[list[SliceHeader], dict[Path, str]]:
    """Slices to read, each once, and the reasons why others are left out; all of them if there would be none left."""
    refused = {header.path: reason for header in chosen if skip_bad and (reason := slice_refusal(header))}
    return without_copies([header for header in chosen if header.path not in refused] or chosen), refused


def geometry_of(headers: list[SliceHeader]) -> Geometry:
    """Work out the grid of a series whose slices are in order.

    The step from slice to slice is the mean difference of positions: along the normal that is the mean gap, and a
    tilted gantry's shear is kept. Where it vanishes (one slice, or all at one place) the slice thickness stands in,
    or 1 mm.
    """
    first, last = headers[0], headers[-1]
    normal, down, right = first.axes()
    row_spacing, column_spacing = first.spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0] = _slice_step(headers, normal)
    affine[:3, 1] = down * row_spacing
    affine[:3, 2] = right * column_spacing
    affine[:3, 3] = np.array(first.position)
    shape = (len(headers), first.rows or 0, first.columns or 0)
    one_frame = first.frame_uid == last.frame_uid
    return Geometry(shape, affine, (last.frame_uid or None) if one_frame else None)


def _slice_step(headers: list[SliceHeader], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    if gaps_mm(headers).sum() <= 0:
        return normal * (headers[0].thickness or 1.0)
    difference = np.array(headers[-1].position) - np.array(headers[0].position)
    step: NDArray[np.float64] = difference / (len(headers) - 1)
    return step


def _decode_all(headers: list[SliceHeader], *, skip_bad: bool) -> tuple[list[SliceHeader], list[str], str | None]:
    """Decode every slice once, to learn which can be, why others cannot, and what is bound to the pixel grid."""
    names: set[str] = set()
    good: list[SliceHeader] = []
    bad: list[str] = []
    for header in headers:
        try:
            dataset = read_dataset(header.path)
            decode_stored(dataset, header.path)
            names |= grid_bound_names(dataset)
            good.append(header)
        except SeriesError as error:
            if not skip_bad or (header is headers[-1] and not good):
                raise
            bad.append(str(error))
    told = f"bound to the pixel grid, not carried into a derived series: {', '.join(sorted(names))}"
    return good, bad, told if names else None


def _skipped_line(bad: list[str]) -> str | None:
    return f"skipped {len(bad)} slices or files that cannot be read, first: {bad[0]}" if bad else None


def _excluded(folder: Path, out: Path | None) -> tuple[Path, ...]:
    if out is None:
        return ()
    place, root = out.resolve(), folder.resolve()
    if place == root or place in root.parents:
        raise SeriesError(f"{shown(out)}: the output would replace its own input; choose another --out")
    return (out, partial_path(out))
