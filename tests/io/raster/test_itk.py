"""NRRD and MetaImage in and out: places, values, bytes."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import Derivation
from qdm_med.io.raster.itk import ItkWriter, read_itk
from qdm_med.volume import Volume

SHAPE = (3, 4, 5)  # (slices, rows, columns)
DERIVATION = Derivation(4, "ct-test", "0123456789abcdef", (("seed", "0"),))
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, 0.28, -0.96], [0, 0.96, 0.28]])
READABLE = [".nrrd", ".nhdr", ".mha", ".mhd"]


def values(dtype: str = "int16", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)


def save(path: Path, data: np.ndarray, *, handedness: int = 1, compress: bool = False) -> Path:
    image = sitk.GetImageFromArray(data)
    if image.GetDimension() == 3:
        image.SetDirection((TURN @ np.diag([handedness, 1, 1])).ravel().tolist())
        image.SetSpacing((0.7, 0.6, 2.5))
        image.SetOrigin((-120.5, 33.25, 801.0))
    sitk.WriteImage(image, path, compress)
    return path


def repeated(volume: Volume, index: int) -> np.ndarray:
    return volume.slices[index].hu.repeat(4, 0).repeat(4, 1)


def upscale(source: Path, out: Path, **options: bool) -> Path:
    volume = read_itk(source)
    with ItkWriter(volume, out, DERIVATION, **options) as writer:
        for index in range(len(volume)):
            if index not in writer.finished:
                writer.write(index, repeated(volume, index))
        return writer.commit()


def outer_corners(image: sitk.Image) -> np.ndarray:
    ends = [(-0.5, length - 0.5) for length in image.GetSize()]
    return np.array([image.TransformContinuousIndexToPhysicalPoint(corner) for corner in itertools.product(*ends)])


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", READABLE)
def test_voxels_lie_where_itk_puts_them(tmp_path, suffix, compress):
    data = values()
    path = save(tmp_path / f"ct{suffix}", data, compress=compress)
    volume = read_itk(path)
    image = sitk.ReadImage(path)
    assert volume.geometry.shape == SHAPE
    for k in (2, 0, 1):
        np.testing.assert_array_equal(volume.slices[k].hu, data[k])
        assert volume.slices[k].hu.dtype == np.float32
    for k, row, column in [(0, 0, 0), (2, 0, 0), (0, 3, 0), (0, 0, 4), (1, 2, 3)]:
        place = image.TransformIndexToPhysicalPoint((column, row, k))
        np.testing.assert_allclose((volume.geometry.affine @ [k, row, column, 1])[:3], place, atol=1e-9)
    np.testing.assert_allclose(np.diff([ct_slice.position_mm for ct_slice in volume]), 2.5)


def test_what_is_not_finite_is_padding_and_comes_back_as_it_was(tmp_path):
    data = values("float32")
    data[0, 2, 1], data[0, 2, 2] = np.nan, -np.inf
    source = save(tmp_path / "ct.mha", data)
    first = read_itk(source).slices[0]
    np.testing.assert_array_equal(first.padding, ~np.isfinite(data[0]))
    assert (first.hu[first.padding] == -1024).all()
    written = sitk.GetArrayFromImage(sitk.ReadImage(upscale(source, tmp_path / "out.nrrd")))
    np.testing.assert_array_equal(written, data.repeat(4, 1).repeat(4, 2))


@pytest.mark.parametrize("suffix", READABLE)
def test_one_plane_is_a_volume_of_one_slice(tmp_path, suffix):
    data = values(shape=(4, 5))
    source = save(tmp_path / f"plane{suffix}", data)
    volume = read_itk(source)
    assert volume.geometry.shape == (1, 4, 5)
    np.testing.assert_array_equal(volume.slices[0].hu, data)
    assert sitk.ReadImage(upscale(source, tmp_path / "out.mha")).GetSize() == (20, 16, 1)


def test_the_series_key_knows_the_grid_but_neither_name_nor_pixels(tmp_path):
    one = read_itk(save(tmp_path / "one.mha", values())).provenance.series_key
    two = read_itk(save(tmp_path / "two.nrrd", values() * 2)).provenance.series_key
    mirrored = read_itk(save(tmp_path / "three.mha", values(), handedness=-1)).provenance.series_key
    assert one == two != mirrored
    assert one.startswith("itk-")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_what_is_no_ct_volume_is_refused_by_name(tmp_path, suffix):
    path = tmp_path / f"odd{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(values(shape=(*SHAPE, 3)), isVector=True), path)
    with pytest.raises(SeriesError, match=r"odd.*real numbers"):
        read_itk(path)
    sitk.WriteImage(sitk.GetImageFromArray(values(shape=(2, *SHAPE)), isVector=False), path)
    with pytest.raises(SeriesError, match=r"odd.*extract one volume"):
        read_itk(path)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_damaged_files_are_refused_by_name(tmp_path, suffix):
    whole = save(tmp_path / f"ct{suffix}", values()).read_bytes()
    (tmp_path / f"noise{suffix}").write_bytes(b"no header at all")
    (tmp_path / f"short{suffix}").write_bytes(whole[:-40])
    for name in (f"noise{suffix}", f"absent{suffix}", "ct.tif"):
        with pytest.raises(SeriesError, match=name):
            read_itk(tmp_path / name)
    with pytest.raises(SeriesError, match=f"short{suffix}"):
        _ = read_itk(tmp_path / f"short{suffix}").hu


@pytest.mark.parametrize("handedness", [1, -1])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "float64"])
def test_values_and_outer_edges_come_back(tmp_path, suffix, dtype, handedness):
    source = save(tmp_path / "ct.nrrd", values().clip(0).astype(dtype), handedness=handedness)
    out = upscale(source, tmp_path / f"out{suffix}")
    before, after = sitk.ReadImage(source), sitk.ReadImage(out)
    assert after.GetPixelID() == (sitk.sitkFloat32 if "float" in dtype else sitk.sitkInt16)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(after), sitk.GetArrayFromImage(before).repeat(4, 1).repeat(4, 2)
    )
    np.testing.assert_allclose(outer_corners(after), outer_corners(before), atol=1e-6)
    expected = read_itk(source).geometry.upscaled_in_plane(4)
    np.testing.assert_allclose(read_itk(out, force=True).geometry.affine, expected.affine, atol=1e-9)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_the_output_says_how_it_was_made_and_copies_no_field(tmp_path, suffix):
    image = sitk.GetImageFromArray(values())
    image.SetMetaData("PatientName", "Doe^John")
    sitk.WriteImage(image, tmp_path / "ct.nrrd")
    content = upscale(tmp_path / "ct.nrrd", tmp_path / f"out{suffix}").read_bytes()
    assert DERIVATION.description().encode() in content
    assert b"Doe" not in content


def test_outputs_that_cannot_be_are_refused_before_anything_is_written(tmp_path):
    source = save(tmp_path / "ct.mha", values())
    (tmp_path / "there.mha").write_bytes(b"precious")
    volume = read_itk(source)
    for name, complaint in [
        ("there.mha", "exists"),
        ("out.mhd", r"must end in \.nrrd or \.mha"),
        ("out.nhdr", r"must end in \.nrrd or \.mha"),
    ]:
        with pytest.raises(SeriesError, match=complaint):
            ItkWriter(volume, tmp_path / name, DERIVATION)
    with pytest.raises(SeriesError, match="the source itself"):
        ItkWriter(volume, source, DERIVATION, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct.mha", "there.mha"]
    assert (tmp_path / "there.mha").read_bytes() == b"precious"


def test_overwriting_replaces_the_file(tmp_path):
    source = save(tmp_path / "ct.mha", values())
    (tmp_path / "out.mha").write_bytes(b"before")
    again = upscale(source, tmp_path / "out.mha", overwrite=True).read_bytes()
    assert again == upscale(source, tmp_path / "new.mha").read_bytes()


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_our_own_output_is_known_again(tmp_path, suffix):
    source = tmp_path / f"ct{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.int16)), str(source))
    volume = read_itk(source)
    with ItkWriter(volume, tmp_path / f"fine{suffix}", DERIVATION) as writer:
        for index in range(len(volume)):
            writer.write(index, np.zeros((12, 16), np.float32))
        derived = writer.commit()
    with pytest.raises(SeriesError, match="--force"):
        read_itk(derived)
    assert read_itk(derived, force=True).geometry.shape == (2, 12, 16)
