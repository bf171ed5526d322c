"""Request of a run or a plan: trees, model and settings, refused where they cannot go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdm_med.archive.settings import Settings, settled
from qdm_med.checkpoints.model import read_card
from qdm_med.device import pick_device
from qdm_med.errors import ConfigError
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.matrix import Grid
from qdm_med.inference.runs.scales import Upscalers, load_upscalers


@dataclass(frozen=True)
class Request:
    """Everything that a run is asked for.

    Attributes:
        tree: Folder with CT series at any depth.
        out: Root of the outputs.
        checkpoint: The model.
        device: Device of the workers, as for ``--device``.
        settings: Settings of every series; the device is found out from the workers.
    """

    tree: Path
    out: Path
    checkpoint: Path
    device: str
    settings: Settings

    @classmethod
    def of(
        cls,
        tree: Path,
        out: Path,
        checkpoint: Path,
        options: UpscaleOptions,
        device: str = "auto",
        *,
        grid: Grid | None = None,
        **others: Any,
    ) -> Request:
        """Build a request from options; ``others`` are fields of :class:`Settings`.

        Raises:
            CheckpointError: If the model cannot be read or was not trained for the scale.
            ConfigError: If an option does not fit the model, or uncertainty is wanted of one sample.
        """
        card, sha256 = read_card(checkpoint)
        grid = grid or Grid()
        own = settled(options, card, grid)
        settings = Settings(own, card.name, sha256, device="", grid=grid, **others)
        if settings.uncertainty and own.samples == 1:
            raise ConfigError("uncertainty needs at least 2 samples, got 1; add --samples 4 or another number")
        return cls(tree.resolve(), out.resolve(), checkpoint.resolve(), device, settings)

    def upscalers(self) -> Upscalers:
        """Load the model here, for estimates: on the CPU, where this machine lacks the workers' device.

        Raises:
            QdmMedError: If an option is out of range at a magnification that the grid may ask for.
        """
        try:
            pick_device(self.device)
        except ConfigError:
            return self._loaded("cpu")
        return self._loaded(self.device)

    def _loaded(self, device: str) -> Upscalers:
        settings = self.settings
        upscalers = load_upscalers(self.checkpoint, settings.options, device=device, grid=settings.grid)
        upscalers.all()
        return upscalers
