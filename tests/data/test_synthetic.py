"""Procedural slices: what is drawn is CT-like, sharp, keyed, and the same at any magnification."""

from __future__ import annotations

import numpy as np
import pytest

from qdm_med.data.synthetic import SyntheticConfig, synthetic_slice, tissue
from qdm_med.errors import ConfigError

ONLY = {
    name: SyntheticConfig(**{**dict.fromkeys(("organs", "low_contrast", "vessels", "steps"), 0.0), name: 1.0})
    for name in ("organs", "low_contrast", "vessels", "steps")
}


def drawn(config, count=20, side=64, scale=4):
    return [synthetic_slice(config, side, scale, np.random.default_rng([1, seed])) for seed in range(count)]


def test_the_same_key_draws_the_same_slice_and_another_key_another():
    first, again, other = (synthetic_slice(SyntheticConfig(), 64, 4, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("scene", ONLY)
def test_every_scene_stays_on_the_scale_of_ct(scene):
    for hu in drawn(ONLY[scene]):
        assert hu.shape == (64, 64)
        assert hu.dtype == np.float32
        assert -1024 <= hu.min() <= hu.max() <= 3071


def test_steps_reach_the_whole_scale_and_are_flat():
    slices = drawn(ONLY["steps"], count=120)
    medians = np.array([np.median(hu) for hu in slices])
    counts, _ = np.histogram(medians, bins=[-1024, -500, 0, 500, 1500, 3071])
    assert (counts > 5).all()
    flat = [np.mean(np.abs(np.diff(hu, axis=1)) < 1e-3) for hu in slices]
    assert np.median(flat) > 0.8


def test_low_contrast_holds_faint_structure_in_soft_tissue():
    slices = drawn(ONLY["low_contrast"], count=60)
    spread = np.array([np.percentile(hu, 99) - np.percentile(hu, 1) for hu in slices])
    assert 10 < np.median(spread) < 150
    assert all(-350 < np.median(hu) < 350 for hu in slices)


def test_objects_have_their_size_in_source_pixels():
    """Twice the scale shows twice the fine pixels of the same object: vessel areas grow by four."""
    config = SyntheticConfig(organs=0, low_contrast=0, vessels=1, steps=0, flat_share=1.0)
    areas = {
        scale: np.mean(
            [(hu > np.median(hu) + 60).mean() for hu in drawn(config, count=60, side=16 * scale, scale=scale)]
        )
        for scale in (4, 8)
    }
    assert areas[8] == pytest.approx(areas[4], rel=0.25)


def test_tissues_come_in_the_stated_shares():
    rng = np.random.default_rng(0)
    hu = np.array([tissue(rng) for _ in range(4000)])
    assert np.mean((hu > 0) & (hu < 90)) == pytest.approx(0.36, abs=0.03)
    assert hu.min() < -950
    assert hu.max() > 2800


@pytest.mark.parametrize(
    "wrong", [{"organs": -1.0}, {"flat_share": 2.0}, dict.fromkeys(("organs", "low_contrast", "vessels", "steps"), 0.0)]
)
def test_weights_of_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match="weights of scenes"):
        SyntheticConfig(**wrong)
