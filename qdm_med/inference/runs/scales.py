"""One checkpoint at the magnification that each source needs: loaded once, whatever grids are asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from qdm_med.checkpoints.model import Checkpoint, find_checkpoint, load_checkpoint
from qdm_med.device import pick_device
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.matrix import Grid, scale_for
from qdm_med.inference.upscaler import Upscaler
from qdm_med.volume import Geometry


class Fitted(NamedTuple):
    """Magnification of one source, and what it is averaged to.

    Attributes:
        upscaler: At the magnification that reaches the grid.
        matrix: Rows and columns to average to; ``None``: slices stay as they are magnified.
    """

    upscaler: Upscaler
    matrix: tuple[int, int] | None


class Upscalers:
    """Upscalers of one checkpoint on one device, which share its networks.

    Args:
        checkpoint: The networks.
        options: Options of the run; their scale holds where no grid is asked for.
        device: Device of the networks.
        grid: Grid that outputs are asked for on.

    Attributes:
        grid: Grid that outputs are asked for on.
    """

    def __init__(
        self, checkpoint: Checkpoint, options: UpscaleOptions, *, device: torch.device, grid: Grid | None = None
    ) -> None:
        self.grid = grid or Grid()
        self._checkpoint, self._options, self._device = checkpoint, options, device
        self._by_scale: dict[int, Upscaler] = {}

    @property
    def sha256(self) -> str:
        """Hash of the networks' weights."""
        return self._checkpoint.sha256

    def at(self, scale: int) -> Upscaler:
        """The upscaler of a magnification.

        Raises:
            CheckpointError: If the checkpoint has no denoiser or was not trained for it.
            ConfigError: If an option is out of range at it.
        """
        if scale not in self._by_scale:
            options = replace(self._options, scale=scale)
            self._by_scale[scale] = Upscaler(self._checkpoint, options, device=self._device)
        return self._by_scale[scale]

    def all(self) -> list[Upscaler]:
        """Every upscaler that a source may need: known at once, so that a wrong option is told before a source is there.

        Raises:
            QdmMedError: As for :meth:`at`.
        """
        return [self.at(scale) for scale in ((self._options.scale,) if self.grid.is_free else self._scales)]

    def fitted(self, source: Geometry) -> Fitted:
        """Choose the smallest magnification that reaches the grid from a source.

        Raises:
            ConfigError: If the grid is coarser than the source, or finer than the largest magnification makes it.
            QdmMedError: As for :meth:`at`.
        """
        matrix = self.grid.matrix_for(source)
        if matrix is None:
            return Fitted(self.at(self._options.scale), None)
        return Fitted(self.at(scale_for(source.shape[1:], matrix, self._scales)), matrix)

    @property
    def _scales(self) -> tuple[int, ...]:
        return self._checkpoint.card.scales


def load_upscalers(
    checkpoint: Path | None, options: UpscaleOptions, *, device: str = "auto", grid: Grid | None = None
) -> Upscalers:
    """Load a checkpoint, by default the embedded clinical one; see :func:`find_checkpoint`.

    Raises:
        CheckpointError: If the file is missing, damaged or invalid.
        ConfigError: If the device is invalid.
    """
    target = pick_device(device)
    return Upscalers(load_checkpoint(find_checkpoint(checkpoint)), options, device=target, grid=grid)
