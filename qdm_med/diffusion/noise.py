"""Noise of a slice: a pure function of seed, series, slice position and draw.

A counter-based generator (Philox) keyed by the slice makes a result independent of the order in which slices are
processed, of batches, tiles and workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qdm_med.keys import keyed

BLOCK = 64
"""Side of a block of noise in latent pixels."""


@dataclass(frozen=True)
class SliceNoise:
    """Standard normal noise on one slice's own latent grid.

    Attributes:
        seed: The user's seed.
        series_key: Identity of the series.
        position_mm: Place of the slice along its normal; rounded to a micrometre, so that float noise in a header's
            arithmetic does not change the draw.
        sample: Number of the sample, for the mean of several.
    """

    seed: int
    series_key: str
    position_mm: float
    sample: int = 0

    def draw(self, number: int, channels: int, rows: slice, columns: slice) -> Tensor:
        """Draw ``number`` of this slice on a part of its latent grid: the same values however the grid is cut.

        The noise comes in blocks of 64 x 64 latent pixels, each with a key of its own, so that a tile of a huge slice
        draws no more than it needs.

        Args:
            number: Number of the draw.
            channels: Latent channels.
            rows: Rows of the slice's latent grid, with start and stop.
            columns: Columns, likewise.

        Returns:
            ``(channels, rows, columns)`` float32 on the CPU.
        """
        places = [range(side.start // BLOCK, -(-side.stop // BLOCK)) for side in (rows, columns)]
        drawn = np.concatenate(
            [
                np.concatenate([self._block(number, channels, row, column) for column in places[1]], axis=2)
                for row in places[0]
            ],
            axis=1,
        )
        top, left = (side.start // BLOCK * BLOCK for side in (rows, columns))
        cut = drawn[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        return torch.from_numpy(np.ascontiguousarray(cut))

    def _block(self, number: int, channels: int, row: int, column: int) -> NDArray[np.float32]:
        # + 0.0 turns -0.0 into 0.0: one place, one key.
        place = f"{round(self.position_mm, 3) + 0.0:.3f}"
        numbers = map(str, (self.sample, number, row, column))
        generator = keyed(str(self.seed), self.series_key, place, *numbers)
        return generator.standard_normal((channels, BLOCK, BLOCK), dtype=np.float32)
