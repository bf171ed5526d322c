"""Spread of the samples of a slice, in one running mean and one running sum, however many samples there are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdm_med.volume import FloatArray


class RunningSpread:
    """Standard deviation of images that come one by one (Welford, Technometrics 4, 1962).

    Args:
        shape: ``(rows, columns)`` of every image.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._count = 0
        self._mean: NDArray[np.float32] = np.zeros(shape, dtype=np.float32)
        self._squares: NDArray[np.float32] = np.zeros(shape, dtype=np.float32)

    def add(self, image: FloatArray) -> None:
        """Count one more image."""
        self._count += 1
        before = image - self._mean
        self._mean += before / self._count
        self._squares += before * (image - self._mean)

    def std(self) -> FloatArray:
        """``(rows, columns)`` float32, in the unit of the images, one degree of freedom taken by their mean.

        Raises:
            ValueError: If fewer than two images were added.

        >>> spread = RunningSpread((1, 2))
        >>> for image in ([[1.0, 5.0]], [[3.0, 5.0]]):
        ...     spread.add(np.array(image, dtype=np.float32))
        >>> spread.std().round(3).tolist()
        [[1.4140000343322754, 0.0]]
        """
        if self._count < 2:
            raise ValueError(f"a standard deviation needs at least 2 images, got {self._count}")
        std: FloatArray = np.sqrt(self._squares / (self._count - 1))
        return std
