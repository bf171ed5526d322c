"""The standard deviation of the samples: of the very samples, in HU, and nothing else changes for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest
import torch

from qdm_med.errors import ConfigError, SeriesError
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.estimate import estimate_volume
from qdm_med.inference.runs.series import upscale_series
from qdm_med.inference.spread import RunningSpread
from qdm_med.inference.upscaler import Upscaler
from qdm_med.io.options import WriterOptions
from qdm_med.io.read import read_volume
from qdm_med.uncertainty import SpreadCalibration
from qdm_med.volume import CtSlice

CPU = torch.device("cpu")
BASE = {"steps": 2, "threshold": 0.02}


def ct_slice(rows=24, columns=40, *, seed=0):
    rng = np.random.default_rng(seed)
    hu = np.kron(rng.uniform(-1000, 800, (rows // 4, columns // 4)), np.ones((4, 4)))
    hu += rng.normal(0, 10, hu.shape)
    hu[:, -8:] = -1000.0  # flat: no leaf
    return CtSlice(hu.astype(np.float32), np.zeros((rows, columns), bool), 5.0 * seed)


@pytest.mark.parametrize("further", [{}, {"tile": 32}, {"consistency": "hard"}, {"consistency": "local"}])
def test_it_is_that_of_the_samples_each_finished_by_itself(tiny_checkpoint, further):
    options = BASE | further
    single = Upscaler(tiny_checkpoint, UpscaleOptions(**options), device=CPU)
    plan = single.plan(ct_slice(48, 48), "series")
    draws = [replace(plan, noise=replace(plan.noise, sample=number)) for number in range(3)]
    samples = [result.hu for result in single.compute(draws)]
    several = Upscaler(tiny_checkpoint, UpscaleOptions(samples=3, **options), device=CPU)
    result = several.upscale_slice(ct_slice(48, 48), "series", uncertainty=True)
    assert result.std_hu.dtype == np.float32
    assert result.std_hu.max() > 1
    np.testing.assert_allclose(result.std_hu, np.std(samples, axis=0, ddof=1), rtol=1e-3, atol=0.05)


@pytest.mark.parametrize("batch_leaves", [0, 4096])
def test_asking_for_it_changes_no_pixel_of_the_mean(tiny_checkpoint, batch_leaves):
    upscaler = Upscaler(tiny_checkpoint, UpscaleOptions(samples=3, batch_leaves=batch_leaves, **BASE), device=CPU)
    jobs = [upscaler.plan(ct_slice(seed=seed), "series") for seed in range(2)]
    with_it, without = upscaler.compute(jobs, uncertainty=True), upscaler.compute(jobs)
    for one, other in zip(with_it, without, strict=True):
        assert one.hu.tobytes() == other.hu.tobytes()
        assert other.std_hu is None


CALIBRATION = SpreadCalibration(4, 2, 2, factor=2.5, floor_hu=20.0, coverage=0.95, consistency="off")


def calibrated(checkpoint):
    return replace(checkpoint, card=replace(checkpoint.card, uncertainty=(CALIBRATION,)))


def test_a_calibration_in_the_card_is_applied_to_the_map_and_to_nothing_else(tiny_checkpoint):
    options = UpscaleOptions(samples=2, **BASE)
    raw = Upscaler(tiny_checkpoint, options, device=CPU).upscale_slice(ct_slice(), "series", uncertainty=True)
    upscaler = Upscaler(calibrated(tiny_checkpoint), options, device=CPU)
    result = upscaler.upscale_slice(ct_slice(), "series", uncertainty=True)
    assert result.hu.tobytes() == raw.hu.tobytes()
    assert result.std_hu.dtype == np.float32
    np.testing.assert_allclose(result.std_hu, np.sqrt((2.5 * raw.std_hu) ** 2 + 20.0**2), rtol=1e-5)
    flat = CtSlice(np.full((20, 24), 40.0, np.float32), np.zeros((20, 24), bool), 0.0)
    assert (upscaler.upscale_slice(flat, "series", uncertainty=True).std_hu == 20.0).all()


def test_a_calibration_is_for_the_scale_and_the_sampler_it_was_measured_with(tiny_checkpoint):
    card = calibrated(tiny_checkpoint).card
    assert UpscaleOptions(steps=2).spread_calibration_for(card) == CALIBRATION
    others = (
        {"scale": 8},
        {"steps": 3},
        {"temperature": 0.5},
        {"mode": "detailed", "steps": None},
        {"consistency": "hard"},
        {"consistency": "local"},
    )
    for other in others:
        assert UpscaleOptions(**{"steps": 2} | other).spread_calibration_for(card) is None
    assert UpscaleOptions(steps=2).spread_calibration_for(tiny_checkpoint.card) is None


def test_a_calibration_that_names_no_agreement_is_for_the_default_of_its_time(tiny_checkpoint):
    earlier = replace(CALIBRATION, consistency="")
    for purpose, own in (("benchmark", "local"), ("clinical", "spread")):
        card = replace(tiny_checkpoint.card, uncertainty=(earlier,), purpose=purpose)
        for consistency in ("off", "local", "spread", "hard"):
            asked = UpscaleOptions(steps=2, mode="balanced", consistency=consistency)
            assert asked.spread_calibration_for(card) == (earlier if consistency == own else None)


def test_a_map_says_how_it_was_calibrated_or_that_it_was_not(tiny_checkpoint, source, tmp_path):
    for name, checkpoint, said in (
        ("raw", tiny_checkpoint, "calibration none, the spread of the samples as it is"),
        (
            "out",
            calibrated(tiny_checkpoint),
            "calibration sqrt((2.50 std)^2 + (20.0 HU)^2) (measured with 2 samples of 2",
        ),
    ):
        upscaler = Upscaler(checkpoint, UpscaleOptions(samples=2, **BASE), device=CPU)
        summary = upscale_series(source, tmp_path / name, upscaler, uncertainty=True)
        headers = [pydicom.dcmread(path) for path in summary.uncertainty.iterdir()]
        assert all(said in header.DerivationDescription for header in headers)
        assert all("calibration" not in pydicom.dcmread(path).DerivationDescription for path in summary.out.iterdir())


def test_maps_of_another_calibration_are_not_gone_on_with(tiny_checkpoint, source, tmp_path):
    def interrupt(done, total, ct_slice):
        if done == 2:
            raise KeyboardInterrupt

    options = UpscaleOptions(samples=2, **BASE)
    with pytest.raises(KeyboardInterrupt):
        upscaler = Upscaler(tiny_checkpoint, options, device=CPU)
        upscale_series(source, tmp_path / "out", upscaler, uncertainty=True, progress=interrupt)
    upscaler = Upscaler(calibrated(tiny_checkpoint), options, device=CPU)
    summary = upscale_series(source, tmp_path / "out", upscaler, uncertainty=True)
    assert summary.resumed == 0
    assert all(np.frombuffer(one, np.float32).min() >= 20.0 for one in arrays(summary.uncertainty))


def test_it_is_zero_where_no_network_is_asked(tiny_checkpoint):
    flat = CtSlice(np.full((20, 24), 40.0, np.float32), np.zeros((20, 24), bool), 0.0)
    upscaler = Upscaler(tiny_checkpoint, UpscaleOptions(samples=2, **BASE), device=CPU)
    std = upscaler.upscale_slice(flat, "series", uncertainty=True).std_hu
    assert std.shape == (80, 96)
    assert not std.any()


def test_the_running_spread_is_exact_far_from_zero():
    images = np.random.default_rng(0).normal(3000, 0.1, (7, 5, 4)).astype(np.float32)
    spread = RunningSpread((5, 4))
    for image in images:
        spread.add(image)
    np.testing.assert_allclose(spread.std(), images.astype(np.float64).std(axis=0, ddof=1), rtol=1e-2)
    with pytest.raises(ValueError, match="at least 2"):
        RunningSpread((1, 1)).std()


def test_one_sample_is_refused_before_anything_is_written(tiny_checkpoint, source, tmp_path):
    upscaler = Upscaler(tiny_checkpoint, UpscaleOptions(**BASE), device=CPU)
    with pytest.raises(ConfigError, match="at least 2 samples, got 1; add --samples"):
        upscale_series(source, tmp_path / "out", upscaler, uncertainty=True)
    with pytest.raises(ConfigError, match="at least 2 samples, got 1; add --samples"):
        estimate_volume(read_volume(source), upscaler, uncertainty=True)
    with pytest.raises(ConfigError, match="at least 2 samples"):
        upscaler.upscale_slice(ct_slice(), "series", uncertainty=True)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_series_gets_its_maps_and_an_interrupted_run_ends_with_the_same(tiny_checkpoint, source, tmp_path):
    upscaler = Upscaler(tiny_checkpoint, UpscaleOptions(samples=2, **BASE), device=CPU)
    summary = upscale_series(source, tmp_path / "whole", upscaler, uncertainty=True)
    assert summary.uncertainty == tmp_path / "whole-uncertainty"
    upscale_series(source, tmp_path / "plain", upscaler)

    def interrupt(done, total, ct_slice):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_series(source, tmp_path / "out", upscaler, uncertainty=True, progress=interrupt)
    assert upscale_series(source, tmp_path / "out", upscaler, uncertainty=True).resumed >= 2
    assert arrays(tmp_path / "out-uncertainty") == arrays(tmp_path / "whole-uncertainty")
    assert arrays(tmp_path / "out") == arrays(tmp_path / "whole") == arrays(tmp_path / "plain")
    assert all(np.frombuffer(one, np.float32).any() for one in arrays(tmp_path / "out-uncertainty"))


def test_a_series_is_not_put_beside_the_maps_of_another(tiny_checkpoint, source, tmp_path):
    upscaler = Upscaler(tiny_checkpoint, UpscaleOptions(samples=2, **BASE), device=CPU)
    upscale_series(source, tmp_path / "out", upscaler, uncertainty=True)
    kept = arrays(tmp_path / "out"), arrays(tmp_path / "out-uncertainty")
    with pytest.raises(SeriesError, match="out-uncertainty: is the uncertainty of another output; move it away"):
        upscale_series(source, tmp_path / "out", upscaler, writing=WriterOptions(overwrite=True))
    assert (arrays(tmp_path / "out"), arrays(tmp_path / "out-uncertainty")) == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-uncertainty", "source"]


def test_a_run_begun_without_maps_is_computed_again_for_them(tiny_checkpoint, source, tmp_path):
    upscaler = Upscaler(tiny_checkpoint, UpscaleOptions(samples=2, **BASE), device=CPU)

    def interrupt(done, total, ct_slice):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_series(source, tmp_path / "out", upscaler, progress=interrupt)
    assert upscale_series(source, tmp_path / "out", upscaler, uncertainty=True).resumed == 0
    assert len(arrays(tmp_path / "out-uncertainty")) == 4


def test_the_estimate_counts_the_maps(tiny_checkpoint, source, tmp_path):
    upscaler = Upscaler(tiny_checkpoint, UpscaleOptions(samples=2, **BASE), device=CPU)
    plain = estimate_volume(read_volume(source), upscaler)
    more = estimate_volume(read_volume(source), upscaler, uncertainty=True)
    assert more.output_bytes == 3 * plain.output_bytes
    assert more.memory_bytes > plain.memory_bytes


def arrays(folder):
    return [pydicom.dcmread(path).pixel_array.tobytes() for path in sorted(folder.iterdir())]
