"""Results of another program on a benchmark's inputs, read from its files: DiffBIR, SeeSR, or any other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from qdm_med.errors import DataError, QdmMedError
from qdm_med.evaluation.cases import Case
from qdm_med.evaluation.exchange import WHITE_16, case_name
from qdm_med.evaluation.methods.method import Restored
from qdm_med.intensity import IntensityMap
from qdm_med.io.plane import read_plane
from qdm_med.volume import FloatArray

SUFFIXES = (".png", ".nii.gz", ".nii", ".nrrd", ".mha", ".dcm")
"""Formats in which results are read."""
_NAMED = 5
"""Files that one message names."""


@dataclass(frozen=True)
class ResultFile:
    """Result of a program for one case.

    Attributes:
        path: File in one of :data:`SUFFIXES`.
        wanted: Rows and columns that it must have.
        intensity: Mapping between HU and the grey levels of a PNG.
    """

    path: Path
    wanted: tuple[int, int]
    intensity: IntensityMap

    def read(self) -> FloatArray:
        """Read the HU of the file.

        Raises:
            DataError: If it cannot be read or has another size.
        """
        try:
            hu = _read_png(self.path, self.intensity) if self.path.suffix == ".png" else read_plane(self.path)
        except QdmMedError as error:
            raise DataError(str(error)) from None
        if hu.shape != self.wanted:
            rows, columns = self.wanted
            raise DataError(f"{self.path}: is {hu.shape[0]} x {hu.shape[1]} pixels, not {rows} x {columns}")
        return hu


def _read_png(path: Path, intensity: IntensityMap) -> FloatArray:
    try:
        with Image.open(path) as image:
            sixteen_bits = image.mode.startswith("I")
            levels = np.asarray(image if sixteen_bits else image.convert("RGB"), dtype=np.float64)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no PNG can be read ({error}); write it again") from None
    grey = levels / WHITE_16 if sixteen_bits else levels.mean(axis=-1) / 255.0
    return intensity.to_hu(grey * 2.0 - 1.0)


def find_result_files(folder: Path, cases: Iterable[Case]) -> list[tuple[Case, ResultFile]]:
    """Find the results of a program for every case, and check all of them before anything is scored.

    Raises:
        DataError: If the folder or a case's file is missing, a case has two, or a file is damaged or of another size.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give --results NAME=DIR with the folder of a program's results")
    found, wrong = [], []
    for case in cases:
        rows, columns = (side * case.scale for side in case.low_hu.shape)
        paths = [path for suffix in SUFFIXES if (path := folder / f"{case_name(case)}{suffix}").is_file()]
        if len(paths) != 1:
            wrong.append(f"{case_name(case)} is missing" if not paths else f"{case_name(case)} is there twice")
            continue
        file = ResultFile(paths[0], (rows, columns), case.intensity)
        try:
            file.read()
        except DataError as error:
            wrong.append(str(error).removeprefix(f"{folder}/"))
        found.append((case, file))
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise DataError(
            f"{folder}: {'; '.join(wrong[:_NAMED])}{more}; one file for each input, named as it, "
            f"of {', '.join(SUFFIXES)}"
        )
    return found


@dataclass(frozen=True)
class Recorded:
    """Results of a program as a method; its running time is unknown.

    Attributes:
        name: Name in tables.
        files: Key of a low-resolution slice, from :func:`slice_key`, to its result.
    """

    name: str
    files: Mapping[str, ResultFile] = field(repr=False)

    def restore(self, low_hu: FloatArray, scale: int) -> Restored:
        """Read the result of one slice."""
        return Restored(self.files[slice_key(low_hu)].read(), seconds=float("nan"))

    @property
    def sha256(self) -> str:
        """Checksum of all files with their names, for the receipt."""
        total = hashlib.sha256()
        for path in sorted(file.path for file in self.files.values()):
            total.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return total.hexdigest()


def slice_key(low_hu: FloatArray) -> str:
    """Identify a low-resolution slice by its pixels."""
    return hashlib.sha256(low_hu.tobytes()).hexdigest()


def recorded(name: str, folder: Path, cases: Iterable[Case]) -> Recorded:
    """Find the results of a program in a folder, as a method; see :func:`find_result_files`."""
    return Recorded(name, {slice_key(case.low_hu): file for case, file in find_result_files(folder, cases)})
