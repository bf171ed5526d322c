"""BRISQUE (Mittal, Moorthy and Bovik, 2012) by the package ``brisque``, whose model lies in its wheel: no network.

The package's own ``score`` fails with NumPy 2.4, which no longer takes an array of one number for a number (0.2.0, February
2026). What it consists of, the features of a grey image at two scales and the model's answer to them, works and is called
here instead; with NumPy 2.3 both give the same bits.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from skimage.color import rgb2gray
from torch import Tensor

from qdm_med.errors import ConfigError

SIDE, SIGMA = 7, 7 / 6
"""Side in pixels and standard deviation of the window over which contrast is normalised."""

PARTS = ("calculate_brisque_features", "calculate_image_quality_score")
"""Function of the package that is called."""


class Brisque:
    """Distance from natural photographs, about 0 to 100, lower is better; some clean ones score below 0.

    Args:
        model: ``BRISQUE`` of the package.
        halved: Makes a grey image half as large.

    Raises:
        ConfigError: If the package is not as it was.
    """

    def __init__(self, model: Any, halved: Any) -> None:
        self._model, self._halved = model, halved
        if missing := [part for part in PARTS if not hasattr(model, part)]:
            raise ConfigError(f"the installed brisque has no {', '.join(missing)}; take brisque 0.2 or remove it")

    def __call__(self, image: Tensor) -> Tensor:
        """Score ``(1, 3, H, W)`` in [0, 1]; NaN where it has no contrast at all."""
        grey = rgb2gray(image[0].movedim(0, -1).double().cpu().numpy())
        features = [
            np.ravel(each)[0]  # a number, or an array of one
            for scale in (grey, self._halved(grey))
            for each in self._model.calculate_brisque_features(scale, kernel_size=SIDE, sigma=SIGMA)
        ]
        return torch.tensor(float(self._model.calculate_image_quality_score(np.array(features, dtype=np.float64))))


def read_brisque() -> Brisque | None:
    """BRISQUE, if the extra ``brisque`` is installed."""
    try:
        library, cv2 = (importlib.import_module(name) for name in ("brisque.brisque", "cv2"))
    except ImportError:
        return None
    return Brisque(
        library.BRISQUE(), lambda grey: cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
    )
