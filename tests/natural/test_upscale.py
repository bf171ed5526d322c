"""Photographs of any size and kind, tile by tile."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from PIL import Image, ImageCms

from qdm_med.errors import CheckpointError, ConfigError, DataError, SeriesError
from qdm_med.inference.fusion import TileFusion
from qdm_med.inference.tiling import Tiling
from qdm_med.models.autoencoder.vq import VqAutoencoder
from qdm_med.natural.band_fusion import BandFusion
from qdm_med.natural.checkpoint import NaturalCard, load_natural, save_natural
from qdm_med.natural.images import ORIENTATION, Photo, read_photo
from qdm_med.natural.upscale import PhotoOptions, PhotoUpscaler, identity_of, magnified_alpha, upscale_photo
from tests.natural.conftest import TINY_VQ

CPU = torch.device("cpu")


def scene(rows: int, columns: int, channels: int = 3) -> np.ndarray:
    """Smooth colours with a step, ``(rows, columns, channels)`` uint8."""
    row, column = np.mgrid[:rows, :columns]
    waves = [
        np.sin(row / (3 + each)) + np.cos(column / (4 + each)) + (column > columns // 2) for each in range(channels)
    ]
    image = np.stack(waves, axis=2)
    return np.uint8(255 * (image - image.min()) / max(np.ptp(image), 1e-6))


@pytest.fixture
def upscaler(natural_checkpoint):
    return PhotoUpscaler(load_natural(natural_checkpoint), PhotoOptions(), device=CPU)


def whole(upscaler: PhotoUpscaler, photo: Photo) -> np.ndarray:
    return np.concatenate(list(upscaler.bands(photo)))


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (33, 70), (64, 40)])
def test_any_size_comes_out_four_times_as_large(upscaler, size, tmp_path):
    made = whole(upscaler, Photo(tmp_path, scene(*size)))
    assert made.shape == (4 * size[0], 4 * size[1], 3)
    assert np.isfinite(made).all()
    assert made.min() >= 0
    assert made.max() <= 1


def test_bands_are_the_fused_tiles_of_the_whole_photograph():
    tiling, rows, columns = Tiling.of(32), 75, 50
    generator = torch.Generator().manual_seed(0)
    fusion, expected = BandFusion(2, 64, columns * 2), TileFusion((2, rows * 2, columns * 2))
    bands, tops = [], tiling.starts(rows)
    regions = list(tiling.regions(rows, columns))
    for number, top in enumerate(tops):
        for region in [one for one in regions if one[0].start == top]:
            tile = torch.rand(2, 64, 2 * (region[1].stop - region[1].start), generator=generator)
            for each in (fusion, expected):
                each.add(tile, region[0].start * 2, region[1].start * 2)
        stop = tops[number + 1] if number + 1 < len(tops) else rows
        bands += list(fusion.release(2 * stop, 20))
    torch.testing.assert_close(torch.cat(bands, dim=1), expected.result())


def row_jumps(upscaler: PhotoUpscaler, made: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean absolute difference of neighbouring rows where a tile begins or ends, and everywhere else."""
    jumps = np.abs(np.diff(made, axis=0)).mean(axis=(1, 2))
    starts = np.array(upscaler.tiling.starts(rows))
    borders = np.unique(np.concatenate([starts[1:] * 4, (starts[:-1] + upscaler.tiling.tile) * 4])) - 1
    return jumps[borders], np.delete(jumps, borders)


def test_rows_where_tiles_begin_and_end_jump_no_more_than_others(upscaler, tmp_path):
    at_borders, elsewhere = row_jumps(upscaler, whole(upscaler, Photo(tmp_path, scene(96, 96))), 96)
    assert at_borders.mean() == pytest.approx(elsewhere.mean(), rel=0.15)


def test_tiles_that_disagree_fade_into_each_other(upscaler, tmp_path, monkeypatch):
    levels = iter(np.random.default_rng(0).permutation(np.linspace(-1, 1, 100)))
    monkeypatch.setattr(
        type(upscaler.model), "__call__", lambda self, tiles, regions, key: torch.full((1, 3, 128, 128), next(levels))
    )
    at_borders, elsewhere = row_jumps(upscaler, whole(upscaler, Photo(tmp_path, scene(96, 96))), 96)
    assert elsewhere.max() > 0.01
    assert at_borders.max() < 0.2 * elsewhere.max()


def test_the_same_photograph_gives_the_same_pixels_and_another_seed_others(natural_checkpoint, upscaler, tmp_path):
    photo = Photo(tmp_path, scene(40, 50))
    first = whole(upscaler, photo)
    np.testing.assert_array_equal(whole(upscaler, replace(photo, path=tmp_path / "other")), first)
    other = PhotoUpscaler(load_natural(natural_checkpoint), PhotoOptions(seed=1), device=CPU)
    assert not np.array_equal(whole(other, photo), first)


def test_colour_is_not_averaged_away_and_grey_stays_grey(upscaler, tmp_path):
    colour = whole(upscaler, Photo(tmp_path, scene(32, 32)))
    assert np.abs(colour[..., 0] - colour[..., 1]).mean() > 0.01
    photo = Photo(tmp_path, scene(32, 32, 1))
    grey = whole(upscaler, photo)
    assert grey.shape == (128, 128, 1)
    answer = upscaler.model.whole(torch.from_numpy(photo.unit()), identity_of(photo))
    np.testing.assert_allclose(grey[..., 0], (answer.mean(dim=0) + 1) / 2, atol=1e-5)


def test_transparency_is_interpolated_and_hidden_colours_do_not_leak(upscaler, tmp_path):
    alpha = np.zeros((40, 40), np.uint8)
    alpha[:, 20:] = 255
    colour = np.full((40, 40, 3), 200, np.uint8)
    hidden = colour.copy()
    hidden[:, :20] = 0
    made, other = (whole(upscaler, Photo(tmp_path, each, alpha)) for each in (colour, hidden))
    assert made.shape == (160, 160, 4)
    np.testing.assert_array_equal(made, other)
    assert made[:, : 4 * 17, 3].max() == 0
    assert made[:, 4 * 23 :, 3].min() == 1


def test_alpha_of_bands_is_that_of_the_whole():
    alpha = np.random.default_rng(0).integers(0, 256, (37, 20), dtype=np.uint8)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(alpha / np.float32(255))[None, None], scale_factor=4, mode="bicubic"
    )[0].clamp(0, 1)
    cuts = (0, 9, 30, 37)
    bands = [magnified_alpha(alpha, 255, slice(*each), 4) for each in pairwise(cuts)]
    torch.testing.assert_close(torch.cat(bands, dim=1), expected, atol=1e-5, rtol=0)


def test_profile_exif_and_orientation_of_a_photograph_are_kept(run, natural_checkpoint, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010F] = 6, "a camera"
    exif.get_ifd(0x8769)[0xA002] = 30
    Image.fromarray(scene(20, 30)).save(tmp_path / "lake.jpg", exif=exif, icc_profile=profile)
    for suffix in ("png", "webp", "jpg"):
        out = tmp_path / f"fine.{suffix}"
        command = ("upscale", "--series", tmp_path / "lake.jpg", "--out", out, "--checkpoint", natural_checkpoint)
        code, told, err = run(*command, "--json")
        assert (code, err) == (0, "")
        summary = json.loads(told)
        assert (summary["rows"], summary["columns"]) == (120, 80)  # turned
        assert summary["active_leaves"] == 1.0
        with Image.open(out) as made:
            assert made.size == (80, 120)
            assert made.info["icc_profile"] == profile
            kept = made.getexif()
            assert (kept.get(ORIENTATION, 1), kept[0x010F]) == (1, "a camera")
            assert kept.get_ifd(0x8769)[0xA002] == 80
            assert "natural-tiny" in kept[0x0131]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fine.jpg", "fine.png", "fine.webp", "lake.jpg"]


def test_sixteen_bits_come_out_as_sixteen(upscaler, tmp_path):
    deep = scene(20, 24).astype(np.uint16) * 257
    sitk.WriteImage(sitk.GetImageFromArray(deep, isVector=True), tmp_path / "deep.png")
    upscale_photo(tmp_path / "deep.png", tmp_path / "fine.png", upscaler)
    made = read_photo(tmp_path / "fine.png").colour
    assert made.dtype == np.uint16
    assert len(np.unique(made)) > 256
    upscale_photo(tmp_path / "deep.png", None, upscaler)
    assert (tmp_path / "deep-srx4.png").exists()


def test_what_cannot_be_done_is_refused_before_anything_is_written(run, upscaler, natural_checkpoint, tmp_path):
    source = tmp_path / "photo.png"
    Image.fromarray(np.dstack([scene(8, 8), np.arange(64, dtype=np.uint8).reshape(8, 8)])).save(source)
    with pytest.raises(DataError, match="JPEG has no transparency"):
        upscale_photo(source, tmp_path / "out.jpg", upscaler)
    with pytest.raises(DataError, match="must end in one of"):
        upscale_photo(source, tmp_path / "out.gif", upscaler)
    with pytest.raises(SeriesError, match="is the source itself"):
        upscale_photo(source, source, upscaler, overwrite=True)
    Image.fromarray(np.zeros((1, 4096), np.uint8)).save(tmp_path / "wide.png")
    with pytest.raises(DataError, match=r"too many for \.webp"):
        upscale_photo(tmp_path / "wide.png", tmp_path / "wide.webp", upscaler)
    with pytest.raises(ConfigError, match="seed"):
        PhotoOptions(seed=-1)
    torch.manual_seed(0)
    save_natural(tmp_path / "vq.safetensors", NaturalCard("vq", TINY_VQ), VqAutoencoder(TINY_VQ))
    with pytest.raises(CheckpointError, match="without a denoiser"):
        PhotoUpscaler(load_natural(tmp_path / "vq.safetensors"), PhotoOptions(), device=CPU)
    for extra, reason in (
        ((), "photographs need a natural-image checkpoint"),
        (("--checkpoint", natural_checkpoint, "--uncertainty"), "--uncertainty mean nothing on photographs"),
        (("--checkpoint", natural_checkpoint, "--scale", 8), "was trained for x4, not for x8"),
    ):
        code, _, err = run("upscale", "--series", source, *extra)
        assert code == 2
        assert reason in " ".join(err.replace("│", " ").split())
    assert not list(tmp_path.glob("*srx4*"))


def test_ct_is_not_run_through_a_natural_checkpoint(run, natural_checkpoint, tmp_path):
    code, _, err = run("upscale", "--series", tmp_path, "--checkpoint", natural_checkpoint)
    assert code == 1
    assert "not a qdm-med checkpoint (format 'qdm-med-natural/1'" in err
