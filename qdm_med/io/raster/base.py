"""Common ground of NIfTI, NRRD and MetaImage: one file, a regular grid, values that are HU already."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from qdm_med.errors import SeriesError
from qdm_med.files import sync_folder, write_whole
from qdm_med.io.derivation import Derivation
from qdm_med.io.dicom.file import shown
from qdm_med.io.dicom.rescale import PADDING_HU, PADDING_SHARE, PixelFormat, magnified, overwrite_blocks
from qdm_med.io.output.place import check_file
from qdm_med.io.output.writer import ResumableWriter
from qdm_med.io.raster.axes import USUAL, Axes
from qdm_med.volume import BoolArray, CtSlice, FloatArray, Geometry, Provenance, Volume

VOID_HU = -1024.0
"""Stands in where a file holds no number."""
LEAST_HU, MOST_HU = -32768, 32767
"""Numbers beyond 16 bits are no HU of any scanner, also not on an extended scale: they mark what is no image."""

ReadPlane = Callable[[int], NDArray[Any]]
"""Slice index -> ``(rows, columns)`` HU as the file has them, NaN and infinities included."""


class RasterSlices:
    """Slices of a volume file, each read when it is indexed.

    Args:
        read_plane: Reads one slice.
        geometry: The grid.
        integer: Whether the file holds integer HU.
        header: The format's own header, for the writer; ``None`` if the volume comes from a file of another kind.
        axes: Axes of the file.

    Attributes:
        dtype: In what HU are written: int16, int32 where integers need it, or float32.
    """

    def __init__(
        self, read_plane: ReadPlane, geometry: Geometry, *, integer: bool, header: Any = None, axes: Axes = USUAL
    ) -> None:
        self.read_plane = read_plane
        self.dtype: np.dtype[Any] = np.dtype("<i2") if integer else np.dtype("<f4")
        self.header = header
        self.axes = axes
        self._count = geometry.shape[0]
        origin, step = geometry.affine[:3, 3], geometry.affine[:3, 0]
        normal = np.cross(geometry.affine[:3, 2], geometry.affine[:3, 1])
        normal = normal / np.linalg.norm(normal)
        normal = -normal if normal @ step < 0 else normal  # positions grow with the index in files of either hand
        self._first_mm, self._step_mm = float(normal @ origin), float(normal @ step)

    def shift(self, hu: float) -> None:
        """Add a constant to every value that may be one in HU."""
        read, whole = self.read_plane, hu.is_integer()
        if not whole:
            self.dtype = np.dtype("<f4")

        def shifted(index: int) -> NDArray[Any]:
            plane = read(index)
            wide = plane.astype(np.int64) if whole and plane.dtype.kind in "iu" else plane
            return np.where(no_hu(plane), wide, wide + (int(hu) if whole else hu))

        self.read_plane = shifted

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> CtSlice:
        if not 0 <= index < self._count:
            raise IndexError(index)
        plane = self.read_plane(index)
        nowhere = no_hu(plane)
        hu = np.where(nowhere, VOID_HU, plane).astype(np.float32)
        lowest = hu.min()
        if lowest <= PADDING_HU and (hu == lowest).mean() > PADDING_SHARE:
            nowhere |= hu == lowest
        return CtSlice(hu, nowhere, self._first_mm + index * self._step_mm)


def no_hu(plane: NDArray[Any]) -> BoolArray:
    """Mark pixels that hold no number, or one that no scanner measures."""
    marked: BoolArray = ~((plane >= LEAST_HU) & (plane <= MOST_HU))  # NaN is neither
    return marked


def raster_volume(
    path: Path,
    slices: RasterSlices,
    geometry: Geometry,
    *,
    source_format: str,
    warnings: tuple[str, ...] = (),
    hu_offset: float = 0.0,
) -> Volume:
    """Wrap the slices of a file after reading each once, so that damage is found here.

    Args:
        path: The file.
        slices: Its slices.
        geometry: Their grid.
        source_format: Name of the format.
        warnings: Oddities of the file, one line each.
        hu_offset: Added to every value that may be one in HU.

    Raises:
        SeriesError: If a slice cannot be read.
    """
    if abs(np.linalg.det(geometry.affine[:3, :3])) < 1e-9:
        raise SeriesError(
            f"{shown(path)}: its voxels have no volume (spacing {geometry.spacing} mm); repair the header"
        )
    if hu_offset:
        slices.shift(hu_offset)
    try:
        for index in range(len(slices)):
            plane = slices.read_plane(index)
            if slices.dtype.kind == "i":
                slices.dtype = np.promote_types(slices.dtype, _dtype_of(path, plane))
    except SeriesError:
        raise
    except Exception as error:  # decompressors and readers of foreign libraries met arbitrary bytes
        raise SeriesError(
            f"{shown(path)}: voxels cannot be read ({type(error).__name__}), the file is cut short or corrupt; "
            "copy it again from its origin"
        ) from error
    key = f"{source_format}-{_in_plane_key(geometry)}"
    return Volume(slices, geometry, Provenance(source_format, key, (path,), warnings, _assumptions(slices, hu_offset)))


def _assumptions(slices: RasterSlices, hu_offset: float) -> tuple[tuple[str, str], ...]:
    offset = [("HU offset", f"{hu_offset:g}")] if hu_offset else []
    return (*offset, *([("slice axis", str(slices.axes[0]))] if slices.axes != USUAL else []))


def _dtype_of(path: Path, plane: NDArray[Any]) -> np.dtype[Any]:
    """Integer type that holds a plane."""
    least, most = int(plane.min()), int(plane.max())
    for dtype in (np.dtype("<i2"), np.dtype("<i4")):
        if np.iinfo(dtype).min <= least and most <= np.iinfo(dtype).max:
            return dtype
    raise SeriesError(
        f"{shown(path)}: holds {least if least < -(2**31) else most}, and integers beyond 32 bits are not kept; "
        "convert it to int16 or float32"
    )


def _in_plane_key(geometry: Geometry) -> str:
    """Digest of the in-plane grid and its place: the same however many slices there are before and behind.

    The place of the first pixel is followed along the slices to where their position is 0.
    """
    step, down, right, origin = geometry.affine[:3].T
    normal = np.cross(right, down)
    foot = origin - step * (normal @ origin) / (normal @ step)
    # Rounding and + 0.0: neither the last bit of a product nor the sign of a zero may change the noise. The odd summand
    # keeps round numbers away from the places where rounding turns.
    numbers = ((foot + 0.00123).round(2) + 0.0).tolist(), (np.stack([down, right]).round(5) + 0.0).tolist()
    return hashlib.sha256(repr((geometry.shape[1:], numbers)).encode()).hexdigest()[:32]


def require_invertible(path: Path, affine: NDArray[np.float64]) -> None:
    """Refuse a grid whose voxels have no volume.

    Raises:
        SeriesError: If the affine is singular or not finite.
    """
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise SeriesError(f"{shown(path)}: its affine is singular, its voxels have no volume; repair the header")


class RasterWriter(ResumableWriter):
    """Writer of a super-resolved volume file: int16, or int32 where needed, if the source had integers.

    Other sources become float32.

    Slices wait in files of their own until the last is there; then the output is put together in bounded memory
    and appears at once. Padding is repeated exactly, NaN included.

    Args:
        volume: A volume of :func:`raster_volume`.
        out: File to create.
        derivation: Record of how the pixels are computed.
        suffixes: Suffixes of the format.
        overwrite: Replace a file that is there.
        spread: Write standard deviations in HU: float32, and 0 where the source is padding.

    Raises:
        SeriesError: If the output cannot be made in this place; nothing is then written.
    """

    def __init__(
        self,
        volume: Volume,
        out: Path,
        derivation: Derivation,
        *,
        suffixes: tuple[str, ...],
        overwrite: bool = False,
        spread: bool = False,
    ) -> None:
        self._source = cast(RasterSlices, volume.slices)
        self._spread = spread
        self.dtype = np.dtype("<f4") if spread else self._source.dtype
        self.axes = self._source.axes
        self.derivation = derivation
        _, source_rows, source_columns = volume.geometry.shape
        self.geometry = volume.geometry.with_matrix(derivation.matrix_of(source_rows, source_columns))
        _, rows, columns = self.geometry.shape
        super().__init__(
            volume,
            partial(check_file, out, volume.provenance.files, suffixes, overwrite=overwrite),
            matrix=(rows, columns),
            key=_job_key(volume, derivation),
            suffix="raw",
            slice_bytes=2 * rows * columns * self.dtype.itemsize,  # once by itself, once in the output
        )

    def _write_slice(self, file: BinaryIO, index: int, hu: FloatArray) -> None:
        plane = np.asarray(self._source.read_plane(index))
        fine = self._integers(plane, hu, index) if self.dtype.kind == "i" else self._floats(plane, hu, index)
        file.write(fine.astype(self.dtype).tobytes())

    def _integers(self, plane: NDArray[Any], hu: FloatArray, index: int) -> NDArray[Any]:
        stored = plane.astype(np.int32)
        pixel_format = PixelFormat(8 * self.dtype.itemsize, signed=True, slope=1.0, intercept=0.0)
        avoid = pixel_format.padding_ranges(stored)
        fine = pixel_format.to_stored(hu, avoid)
        overwrite_blocks(fine, stored, self._source[index].padding)
        return fine

    def _floats(self, plane: NDArray[Any], hu: FloatArray, index: int) -> NDArray[Any]:
        padding = magnified(self._source[index].padding, self.matrix)
        return np.where(padding, 0.0 if self._spread else magnified(plane, self.matrix), hu)

    def _put_in_place(self) -> None:
        assembled = self._job.path / "assembled"
        write_whole(assembled, self._assemble)
        assembled.replace(self.out)
        sync_folder(self.out.parent)

    def _assemble(self, file: BinaryIO) -> None:
        file.write(self._plain_header())
        if not self._compressed():
            self._copy_slices(file)
            return
        # No name and no time in the gzip header: the same voxels give the same bytes.
        with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as packed:
            packed.write(self._packed_header())
            self._copy_slices(cast(BinaryIO, packed))

    def _copy_slices(self, file: BinaryIO) -> None:
        if self.axes != USUAL:
            self._weave_slices(file)
            return
        for index in range(len(self.volume)):
            with self.slice_path(index).open("rb") as slice_file:
                shutil.copyfileobj(slice_file, file)

    def _weave_slices(self, file: BinaryIO) -> None:
        """Write slices that lie along the first or second axis of the file, whose last axis counts their rows."""
        count, rows, columns = self.geometry.shape
        slices = [np.memmap(self.slice_path(index), self.dtype, "r", shape=(rows, columns)) for index in range(count)]
        for row in range(rows):
            plane = np.stack([each[row] for each in slices])
            file.write((plane if self.axes[0] == 1 else plane.T).tobytes())

    def in_file_order(self, by_index: Sequence[Any] | NDArray[Any]) -> list[Any]:
        """Reorder values for slices, rows and columns to the axes of the file."""
        return [by_index[self.axes.index(axis)] for axis in range(3)]

    @abstractmethod
    def _compressed(self) -> bool:
        """Whether the voxels are compressed by gzip."""

    @abstractmethod
    def _plain_header(self) -> bytes:
        """Part of the file before the compressed part, or before the voxels if nothing is compressed."""

    def _packed_header(self) -> bytes:
        """Part of the file that is compressed together with the voxels."""
        return b""


def _job_key(volume: Volume, derivation: Derivation) -> str:
    sources = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in volume.provenance.files]
    return hashlib.sha256(json.dumps([derivation.job_key(volume.provenance.series_key), sources]).encode()).hexdigest()
