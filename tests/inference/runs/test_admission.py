"""Before a run: tiles within its memory, findings about the source, and a refusal where that is wanted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qdm_med.errors import ConfigError, SeriesError
from qdm_med.inference.memory import peak_bytes
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.admission import admitted
from qdm_med.inference.upscaler import Upscaler
from qdm_med.io.read import read_volume
from qdm_med.volume import Geometry, Volume


@pytest.fixture
def upscaler(tiny_checkpoint):
    return Upscaler(tiny_checkpoint, UpscaleOptions(steps=1, samples=1), device=torch.device("cpu"))


def of_scanner_values():
    """Values from 0 to 4095, as a scanner stores them: no HU."""
    values = np.random.default_rng(0).uniform(0, 4095, (2, 512, 512)).astype(np.float32)
    return Volume.from_array(values, Geometry(values.shape, np.diag([5.0, 0.7, 0.7, 1.0])))


def test_a_doubtful_source_is_told_of_or_refused_by_name(upscaler, source):
    assert "do not look like HU" in admitted(of_scanner_values(), upscaler).warnings[0]
    with pytest.raises(SeriesError, match=r"the volume: .*do without --strict"):
        admitted(of_scanner_values(), upscaler, strict=True)
    opened = read_volume(source)
    assert admitted(opened, upscaler, strict=True).warnings == ()
    upscaler.card = replace(upscaler.card, training={"domain": {"matrix": [512, 512]}})
    with pytest.raises(SeriesError, match=f"{source.name}: unlike what model tiny"):
        admitted(opened, upscaler, strict=True)


def test_tiles_keep_below_the_limit_of_this_source(upscaler):
    whole = peak_bytes(upscaler.card, (512, 512), upscaler.tiling, 4)
    admitted(of_scanner_values(), upscaler, max_memory=whole)
    assert upscaler.tiling.tile == 128
    admitted(of_scanner_values(), upscaler, max_memory=whole - 1)
    assert upscaler.tiling.tile < 128
    with pytest.raises(ConfigError, match="raise --max-memory"):
        admitted(of_scanner_values(), upscaler, max_memory=1000)


def test_the_spread_of_one_sample_is_refused_before_anything_is_computed(upscaler):
    with pytest.raises(ConfigError, match="at least 2 samples"):
        admitted(of_scanner_values(), upscaler, uncertainty=True)
