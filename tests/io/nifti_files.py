"""NIfTI files of the tests: a small oblique volume, and its trivial magnification."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np

from qdm_med.io.derivation import Derivation
from qdm_med.io.raster.nifti import NiftiWriter, read_nifti
from qdm_med.volume import Volume

SHAPE = (5, 4, 3)  # (i, j, k)
DERIVATION = Derivation(4, "ct-test", "0123456789abcdef", (("seed", "0"),))
OBLIQUE = np.array([[0.66, -0.21, 0.4, -101.3], [0.2, 0.65, -0.3, 55.5], [-0.08, 0.2, 2.4, 801.25], [0, 0, 0, 1]])


def values(dtype: str = "int16", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)


def save(path: Path, data: np.ndarray, affine: np.ndarray = OBLIQUE, **header: object) -> Path:
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def repeated(volume: Volume, index: int, scale: int = DERIVATION.scale) -> np.ndarray:
    return volume.slices[index].hu.repeat(scale, 0).repeat(scale, 1)


def upscale(
    source: Path, out: Path, derivation: Derivation = DERIVATION, *, axis: int | None = None, **options: bool
) -> Path:
    volume = read_nifti(source, axis=axis)
    with NiftiWriter(volume, out, derivation, **options) as writer:
        for index in range(len(volume)):
            if index not in writer.finished:
                writer.write(index, repeated(volume, index, derivation.scale))
        return writer.commit()


def outer_corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """RAS places of the corners of the corner voxels, from the file's own affine."""
    ends = [(-0.5, length - 0.5) for length in shape]
    return np.array([affine @ [*corner, 1.0] for corner in itertools.product(*ends)])[:, :3]
