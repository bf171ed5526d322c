"""Measures of photographs against what is known of them."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import structural_similarity

from qdm_med.errors import ConfigError
from qdm_med.natural.metrics import Scorer, eight_bit, how_to_blind, luma, read_blind

CPU = torch.device("cpu")


def image(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 8, 8, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(48, 56), mode="bicubic").clamp(-1, 1)


@pytest.mark.parametrize(
    ("colour", "y"),
    [((0, 0, 0), 16), ((255, 255, 255), 235), ((255, 0, 0), 81.481), ((0, 255, 0), 144.553), ((0, 0, 255), 40.966)],
)
def test_y_of_known_colours(colour, y):
    unit = torch.tensor(colour).reshape(1, 3, 1, 1) / 127.5 - 1
    assert float(luma(unit)) == pytest.approx(y, abs=1e-3)


def test_psnr_and_ssim_on_y_agree_with_scikit_image():
    answer, truth = eight_bit(image(0)), eight_bit((image(0) + 0.2 * image(1)).clamp(-1, 1))
    found = Scorer(None, {}, device=CPU)(answer, truth)
    ys = [rgb2ycbcr(((each[0] + 1) / 2).movedim(0, -1).double().numpy())[..., 0] for each in (answer, truth)]
    assert found["psnr_y"] == pytest.approx(10 * np.log10(255**2 / np.mean((ys[0] - ys[1]) ** 2)), abs=1e-6)
    similarity = structural_similarity(
        *ys, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )[1][5:-5, 5:-5].mean()
    assert found["ssim_y"] == pytest.approx(similarity, abs=1e-5)


def test_answers_are_scored_as_the_eight_bits_that_a_file_would_hold():
    truth = eight_bit(image(0))
    assert Scorer(None, {}, device=CPU)(truth + 0.4 / 127.5, truth)["psnr_y"] == float("inf")


def test_blind_measures_are_those_of_iqa_pytorch_where_it_is_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "brisque.brisque", None)
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    assert read_blind(CPU) == {}
    assert "pip install pyiqa" in how_to_blind({})
    assert "pip install 'qdm-med[brisque]'" in how_to_blind({})
    made = types.ModuleType("pyiqa")
    made.create_metric = lambda name, device: lambda unit: unit.mean() + len(name)
    monkeypatch.setitem(sys.modules, "pyiqa", made)
    blind = read_blind(CPU)
    found = Scorer(None, blind, device=CPU)(torch.ones(1, 3, 16, 16), None)
    assert found == {"clipiqa": 8.0, "musiq": 6.0}  # images in [0, 1]
    assert "pyiqa" not in how_to_blind(blind)

    def no_weights(name, device):
        raise OSError("no route to host")

    made.create_metric = no_weights
    with pytest.raises(ConfigError, match=r"clipiqa of IQA-PyTorch cannot be made \(no route to host\)"):
        read_blind(CPU)
