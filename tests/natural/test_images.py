"""Photographs are read as a viewer shows them, and broken ones are named."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image, ImageCms, ImageOps

from qdm_med.errors import DataError
from qdm_med.natural.formats import is_photo
from qdm_med.natural.images import ORIENTATION, list_photos, read_photo
from tools import carried_photographs


def pixels(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_as_pillow_turns_it(tmp_path, orientation):
    image = Image.fromarray(pixels(5, 7, 3))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[0x010E] = "a lake"
    image.save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored))
    photo = read_photo(tmp_path / "photo.png")
    np.testing.assert_array_equal(photo.colour, upright)
    kept = Image.Exif()
    kept.load(photo.exif)
    assert dict(kept) == {0x010E: "a lake"}


@pytest.mark.parametrize(
    ("mode", "shape", "channels", "has_alpha"),
    [("L", (6, 9), 1, False), ("RGB", (6, 9, 3), 3, False), ("LA", (6, 9, 2), 1, True), ("RGBA", (6, 9, 4), 3, True)],
)
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_grey_colour_and_alpha_come_as_they_are(tmp_path, mode, shape, channels, has_alpha, suffix):
    samples = pixels(*shape)
    image = Image.fromarray(samples, mode=None)
    assert image.mode == mode
    image.save(tmp_path / f"photo.{suffix}", lossless=True, exact=True)
    photo = read_photo(tmp_path / f"photo.{suffix}")
    stored = samples.reshape(6, 9, -1)
    grey_as_colour = suffix == "webp" and channels == 1  # WebP knows no grey
    assert photo.colour.shape[2] == (3 if grey_as_colour else channels)
    np.testing.assert_array_equal(photo.colour, np.broadcast_to(stored[..., :channels], photo.colour.shape))
    assert (photo.alpha is not None) == has_alpha
    if has_alpha:
        np.testing.assert_array_equal(photo.alpha, stored[..., -1])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_kept(tmp_path, channels):
    samples = pixels(6, 9, channels, dtype=np.uint16)
    flat = samples[..., 0] if channels == 1 else samples
    sitk.WriteImage(sitk.GetImageFromArray(flat, isVector=channels > 1), tmp_path / "photo.png")
    photo = read_photo(tmp_path / "photo.png")
    assert photo.white == 65535
    np.testing.assert_array_equal(photo.colour, samples[..., :3])
    if channels == 4:
        np.testing.assert_array_equal(photo.alpha, samples[..., 3])


def test_a_palette_with_transparency_becomes_colour_and_alpha(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), mode="P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "photo.png", transparency=1)
    photo = read_photo(tmp_path / "photo.png")
    assert photo.colour[0].tolist() == [[255, 0, 0], [0, 255, 0]]
    assert photo.alpha.tolist() == [[255, 0], [255, 0]]


def test_opaque_alpha_is_no_transparency_and_the_profile_is_kept(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    opaque = np.concatenate([pixels(4, 4, 3), np.full((4, 4, 1), 255, np.uint8)], axis=2)
    Image.fromarray(opaque).save(tmp_path / "photo.png", icc_profile=profile)
    photo = read_photo(tmp_path / "photo.png")
    assert photo.alpha is None
    assert photo.icc == profile


def test_units_run_from_minus_one_to_one_with_grey_in_three_channels(tmp_path):
    Image.fromarray(np.array([[0, 255, 51]], dtype=np.uint8)).save(tmp_path / "photo.png")
    np.testing.assert_allclose(read_photo(tmp_path / "photo.png").unit(), [[[-1, 1, -0.6]]] * 3, atol=1e-6)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_file_cut_short_is_named(tmp_path, suffix):
    whole = tmp_path / f"whole.{suffix}"
    Image.fromarray(pixels(64, 64, 3)).save(whole)
    broken = tmp_path / f"broken.{suffix}"
    broken.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(DataError, match=rf"broken\.{suffix}: cannot be read as a photograph"):
        read_photo(broken)


def test_what_is_no_photograph_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.png: no such file"):
        read_photo(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no pixels")
    with pytest.raises(DataError, match=r"text\.png: cannot be read"):
        read_photo(tmp_path / "text.png")
    Image.fromarray(pixels(4, 4, 3)).convert("CMYK").save(tmp_path / "print.jpg")
    with pytest.raises(DataError, match=r"print\.jpg: is CMYK"):
        read_photo(tmp_path / "print.jpg")


def test_photographs_of_a_folder_are_found_by_suffix(tmp_path):
    (tmp_path / "deeper").mkdir()
    for name in ("b.JPG", "deeper/a.webp", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_photos(tmp_path)] == ["b.JPG", "a.webp"]
    assert is_photo(tmp_path / "b.JPG")
    assert not is_photo(tmp_path / "ct.nii.gz")
    with pytest.raises(DataError, match="no such folder"):
        list_photos(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no photographs"):
        list_photos(tmp_path / "empty")


def test_the_photographs_that_scikit_image_carries_can_be_trained_on(tmp_path):
    carried_photographs.main(tmp_path / "train")
    photos = [read_photo(path) for path in list_photos(tmp_path / "train")]
    assert len(photos) == len(carried_photographs.NAMES)
    assert min(min(photo.size) for photo in photos) >= 300
