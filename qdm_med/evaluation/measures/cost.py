"""Multiply-accumulates of the networks, counted operator by operator.

Counted are matrix products, convolutions and attention as PyTorch dispatches them (``torch.utils.flop_counter``, two
FLOPs a multiply-accumulate), for the shapes that are really computed: a leaf or window that is skipped is not counted.
Element-wise work (norms, activations, sums) and interpolation are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from qdm_med.models.autoencoder.kl_vae import AutoencoderConfig, KlVae
from qdm_med.models.qdm.config import DenoiserConfig
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser

Result = TypeVar("Result")


def count_macs(run: Callable[[], Result]) -> tuple[Result, int]:
    """Run a function and count its multiply-accumulates.

    Args:
        run: Runs networks; called once.

    Returns:
        What ``run`` returned, and the count.
    """
    with FlopCounterMode(display=False, custom_mapping={_CPU_ATTENTION: _cpu_attention_flops}) as counter:
        result = run()
    return result, counter.get_total_flops() // 2


_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
"""PyTorch counts attention on accelerators under other names."""


def _cpu_attention_flops(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], *_: object, **__: object
) -> int:
    flops: int = sdpa_flop(query, key, value)
    return flops


class CountedAutoencoder(KlVae):
    """An autoencoder that counts its own multiply-accumulates wherever it runs.

    Args:
        counted: The autoencoder; weights are shared with it.

    Attributes:
        macs: Multiply-accumulates so far.
    """

    def __init__(self, counted: KlVae) -> None:
        with torch.device("meta"):  # its own weights are replaced at once
            super().__init__(counted.config)
        self.network = counted.network
        self.latent_mean, self.latent_scale = counted.latent_mean, counted.latent_scale
        self.macs = 0

    def encode(self, image: Tensor) -> Tensor:
        """Encode as the autoencoder does, counting."""
        return self._counted(lambda: super(CountedAutoencoder, self).encode(image))

    def decode(self, latent: Tensor) -> Tensor:
        """Decode as the autoencoder does, counting."""
        return self._counted(lambda: super(CountedAutoencoder, self).decode(latent))

    def _counted(self, run: Callable[[], Tensor]) -> Tensor:
        result, macs = count_macs(run)
        self.macs += macs
        return result


def autoencoder_cost(config: AutoencoderConfig, side: int) -> int:
    """Count the multiply-accumulates of encoding and decoding one square image; nothing is computed.

    Args:
        config: Shape of the autoencoder.
        side: Pixels of a side.
    """
    with torch.device("meta"), torch.no_grad():
        autoencoder = CountedAutoencoder(KlVae(config).eval())
        autoencoder.decode(autoencoder.encode(torch.zeros(1, 1, side, side)))
    return autoencoder.macs


@dataclass(frozen=True)
class StepCost:
    """Cost of one denoiser step.

    Attributes:
        macs: Multiply-accumulates.
        windows: Downstream windows that were computed.
        windows_in_all: Windows there are.
        leaf_density: Active leaves among all, 0 to 1.
    """

    macs: int
    windows: int
    windows_in_all: int
    leaf_density: float


def step_cost(config: DenoiserConfig, leaves: Tensor) -> StepCost:
    """Count one step of a denoiser with random weights.

    Nothing is computed: the paper's largest network is counted in a second.

    Args:
        config: Shape of the denoiser.
        leaves: ``(B, rows, columns)`` bool active leaves; the latents have ``downstream_patch`` times as many rows.
    """
    device = torch.device("meta")
    with device:
        network = TwoStreamDenoiser(config).eval()
    plan = network.plan(leaves)
    rows, columns = (side * config.downstream_patch for side in leaves.shape[-2:])

    def blank(channels: int) -> Tensor:
        return torch.zeros(len(leaves), channels, rows, columns, device=device)

    t = torch.zeros(len(leaves), dtype=torch.long, device=device)
    latent, low_res = blank(config.latent_channels), blank(1)
    placed = plan.to(device)
    with torch.no_grad():
        source = network.read_source(low_res, latent)  # once a slice, not a step
        _, macs = count_macs(lambda: network(latent, t, low_res, latent, placed, source))
    return StepCost(macs, plan.window_count, plan.windows_in_all, float(leaves.float().mean()))
