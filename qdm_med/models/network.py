"""Choice of the network that predicts ``z_0``, by its configuration."""

from __future__ import annotations

from torch import Tensor

from qdm_med.models.compared.unet import LatentUnet, LatentUnetConfig
from qdm_med.models.qdm.config import DenoiserConfig
from qdm_med.models.qdm.denoiser import Step, TwoStreamDenoiser

LatentStep = Step | Tensor
"""Result of ``read_step`` of either for a timestep."""

LatentNetwork = TwoStreamDenoiser | LatentUnet
LatentNetworkConfig = DenoiserConfig | LatentUnetConfig
"""QDM's network, or, where ``kind`` says ``unet``, the U-Net of the methods that it is compared with."""


def build_network(config: LatentNetworkConfig) -> LatentNetwork:
    """Make a network with random weights."""
    return LatentUnet(config) if isinstance(config, LatentUnetConfig) else TwoStreamDenoiser(config)
