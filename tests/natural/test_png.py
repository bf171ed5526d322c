"""PNG files that others read as they were meant."""

from __future__ import annotations

import io

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image, ImageCms

from qdm_med.natural.png import PngWriter


def written(samples: np.ndarray, cuts: tuple[int, ...] = (), **kept: bytes) -> bytes:
    file = io.BytesIO()
    writer = PngWriter(file, *samples.shape, 8 * samples.itemsize, **kept)
    for part in np.split(samples, cuts):
        writer.write(part)
    writer.finish()
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pillow_reads_eight_bits_back_however_the_rows_came(channels):
    samples = np.random.default_rng(0).integers(0, 256, (75, 33, channels), dtype=np.uint8)
    whole = written(samples)
    back = np.asarray(Image.open(io.BytesIO(whole))).reshape(samples.shape)
    np.testing.assert_array_equal(back, samples)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(written(samples, (1, 40))))).reshape(samples.shape), samples)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_itk_reads_sixteen_bits_back(tmp_path, channels):
    samples = np.random.default_rng(0).integers(0, 65536, (40, 21, channels), dtype=np.uint16)
    (tmp_path / "deep.png").write_bytes(written(samples))
    back = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "deep.png"))
    np.testing.assert_array_equal(back.reshape(samples.shape), samples)


def test_a_smooth_image_is_smaller_than_its_samples():
    row, column = np.mgrid[:128, :128]
    samples = np.stack([row, column, (row + column) // 2], axis=2).astype(np.uint8)
    assert len(written(samples)) < samples.nbytes / 20


def test_profile_and_exif_are_read_back():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0131] = "qdm-med"
    image = Image.open(io.BytesIO(written(np.zeros((2, 2, 3), np.uint8), icc=profile, exif=exif.tobytes())))
    assert image.info["icc_profile"] == profile
    assert image.getexif()[0x0131] == "qdm-med"


def test_an_image_that_lacks_rows_is_not_finished():
    writer = PngWriter(io.BytesIO(), 3, 2, 1, 8)
    writer.write(np.zeros((2, 2, 1), np.uint8))
    with pytest.raises(RuntimeError, match="1 rows"):
        writer.finish()
