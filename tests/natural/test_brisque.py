"""BRISQUE by its package: what the package itself says, where it still can, and how it is called."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import skimage.data
import torch
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2gray

from qdm_med.errors import ConfigError
from qdm_med.natural.brisque import Brisque, read_brisque
from qdm_med.natural.metrics import Scorer, how_to_blind, read_blind

CPU = torch.device("cpu")
BY_THE_PACKAGE = {"astronaut": 10.794862939073454, "coffee": 3.0479264284917633, "rocket": 4.23315409325491}
"""``brisque.BRISQUE().score`` of scikit-image's photographs: brisque 0.2.0 with NumPy 2.3.5, where it runs as it is."""


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).movedim(-1, 0)[None] / 255


@pytest.fixture
def brisque():
    found = read_brisque()
    if found is None:
        pytest.skip("the extra brisque is not installed")
    return found


@pytest.mark.parametrize("name", BY_THE_PACKAGE)
def test_photographs_score_what_the_package_says_of_them(brisque, name):
    image = getattr(skimage.data, name)()
    assert float(brisque(tensor(image))) == pytest.approx(BY_THE_PACKAGE[name], abs=0.01)


def test_noise_and_blur_are_worse_and_the_scorer_has_the_column(brisque):
    clean = skimage.data.astronaut()
    noise = np.random.default_rng(0).normal(0, 25, clean.shape)
    scorer = Scorer(None, {"brisque": brisque}, device=CPU)
    scores = [
        scorer(tensor(image.clip(0, 255).round()).float() * 2 - 1, None)["brisque"]
        for image in (clean * 1.0, clean + noise, gaussian_filter(clean * 1.0, (2, 2, 0)))
    ]
    assert scores[0] == pytest.approx(BY_THE_PACKAGE["astronaut"], abs=0.01)
    assert min(scores[1:]) > scores[0] + 20
    assert "BRISQUE" not in how_to_blind({"brisque": brisque})


class Recorded:
    """A model whose features are numbers and arrays of one, as the package's are."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def calculate_brisque_features(self, image: np.ndarray, kernel_size: int, sigma: float) -> np.ndarray:
        assert (kernel_size, sigma) == (7, 7 / 6)
        self.seen.append(image)
        return np.array([1.0, np.array([image.mean()])], dtype=object)

    def calculate_image_quality_score(self, features: np.ndarray) -> float:
        assert features.dtype == np.float64
        return float(features @ [1.0, 10.0, 100.0, 1000.0])


def test_features_of_the_grey_image_and_of_its_half_are_what_the_model_is_asked(monkeypatch):
    library, cv2 = types.ModuleType("brisque.brisque"), types.ModuleType("cv2")
    model, cv2.INTER_CUBIC = Recorded(), 2
    library.BRISQUE = lambda: model
    cv2.resize = lambda image, size, fx, fy, interpolation: image[::2, ::2] * (size is None) * fx * 2 * (fy == 0.5)
    monkeypatch.setitem(sys.modules, "brisque.brisque", library)
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    found = read_blind(CPU)["brisque"](tensor(image))
    grey = rgb2gray(image)
    np.testing.assert_allclose(model.seen[0], grey, atol=1e-7)
    np.testing.assert_allclose(model.seen[1], grey[::2, ::2], atol=1e-7)
    assert float(found) == pytest.approx(101 + 10 * grey.mean() + 1000 * grey[::2, ::2].mean(), rel=1e-6)


def test_a_package_that_has_changed_is_refused():
    with pytest.raises(ConfigError, match="has no calculate_brisque_features, calculate_image_quality_score; take"):
        Brisque(object(), None)
