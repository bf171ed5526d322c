"""Time a step of a paper-size denoiser by active windows and of the tiny one by active leaves: the saving by sparsity.

Usage: python benchmarks/network_step.py [--preset s] [--repeats 5] [--threads 2] [--out network_step.json]

The weights are random: they do not change the work. "full" windows have every leaf active, "real" ones as many as were
measured on CT at x4 (37 %). The ideal of window mode is the upstream's time and, for the rest, the share of windows.
Through the seconds by windows and by leaves a line is fitted, and its largest relative residual is told.
"""

from __future__ import annotations

import torch
from timing import against, alternating, arguments, line, tell
from torch import Tensor

from qdm_med.models.qdm.config import PRESETS, DenoiserConfig
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser

LATENT = 128
REAL_DENSITY = 0.37
WINDOWS = (0, 3, 13, 32, 64)
LEAVES = (0.1, 0.2, 0.33, 0.5, 1.0)


def windows_mask(windows: int, density: float, generator: torch.Generator) -> Tensor:
    """``(1, 64, 64)`` leaves: so many windows of 8 x 8, each with a share of its leaves active."""
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    for window in torch.randperm(64, generator=generator)[:windows].tolist():
        row, column = (8 * place for place in divmod(window, 8))
        mask[:, row : row + 8, column : column + 8] = torch.rand(8, 8, generator=generator) < density
        mask[:, row, column] = True
    return mask


def step_times(config: DenoiserConfig, masks: dict[str, Tensor], repeats: int) -> dict[str, list[float]]:
    """Wall times of one denoiser step with each mask, and of the upstream alone."""
    torch.manual_seed(0)
    network = TwoStreamDenoiser(config).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, config.latent_channels, LATENT, LATENT, generator=generator)
    low_res = x[:, :1]
    channels = config.trunk_channels or config.latent_channels + config.condition_channels
    seen = torch.randn(1, channels, LATENT, LATENT, generator=generator)
    plans = {name: network.plan(mask) for name, mask in masks.items()}
    with torch.no_grad():
        source, step = network.read_source(low_res, x), network.read_step(torch.tensor([7]))  # once a slice, once a run
    ways = {name: lambda plan=plan: network(x, step, low_res, x, plan, source) for name, plan in plans.items()}
    return alternating({**ways, "upstream alone": lambda: network.upstream(seen, step.upstream)}, repeats)


def main() -> None:
    """Measure, print, write."""
    given = arguments(__doc__, preset="s", repeats=5)
    generator = torch.Generator().manual_seed(1)
    masks = {"64 windows, full": windows_mask(64, 2.0, generator)}
    for windows in WINDOWS:
        masks[f"{windows} windows, full"] = windows_mask(windows, 2.0, generator)
        masks[f"{windows} windows, real"] = windows_mask(windows, REAL_DENSITY, generator)
    dense = "64 windows, full"
    told = against(dense, step_times(PRESETS[given.preset], masks, given.repeats))
    upstream = told["upstream alone"][f"of {dense}"]
    for windows in WINDOWS[1:]:
        ideal = upstream + (1 - upstream) * windows / 64
        for kind in ("full", "real"):
            figures = told[f"{windows} windows, {kind}"]
            figures["ideal / measured"] = ideal / figures[f"of {dense}"]
    leaves = {f"{share:.0%} of leaves": torch.rand(1, 64, 64, generator=generator) < share for share in LEAVES}
    for kind in ("full", "real"):
        taken = [told[f"{windows} windows, {kind}"]["seconds"] for windows in WINDOWS[1:]]
        told[f"line, {kind}"] = line(WINDOWS[1:], taken, "a window")
    leaf_mode = against("100% of leaves", step_times(PRESETS["t"], leaves, given.repeats))
    leaf_mode["line"] = line(LEAVES, [leaf_mode[name]["seconds"] for name in leaves], "all leaves")
    tell(
        {f"{given.preset}: {name}": figures for name, figures in told.items()}
        | {f"t: {name}": figures for name, figures in leaf_mode.items()},
        given.out,
    )


if __name__ == "__main__":
    main()
