"""Embeddings of time and place: sinusoids, as in DiT (arXiv 2212.09748)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MAX_PERIOD = 10_000.0
"""Longest period of the sinusoids, in steps or in patches."""


def timestep_embedding(t: Tensor, dim: int = 256) -> Tensor:
    """Sinusoids of the timestep, cosines first.

    Args:
        t: ``(B,)`` timesteps counted from 0.
        dim: Even number of features.

    Returns:
        ``(B, dim)`` float32 in [-1, 1].
    """
    half = dim // 2
    frequencies = torch.exp(-math.log(MAX_PERIOD) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t[:, None].float() * frequencies  # (B, half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedder(nn.Module):
    """Sinusoids of the timestep through a small MLP."""

    SINUSOIDS = 256

    def __init__(self, hidden: int) -> None:
        super().__init__()
        first, second = nn.Linear(self.SINUSOIDS, hidden), nn.Linear(hidden, hidden)
        for layer in (first, second):
            nn.init.normal_(layer.weight, std=0.02)
        self.mlp = nn.Sequential(first, nn.SiLU(), second)

    def forward(self, t: Tensor) -> Tensor:
        """``(B,)`` timesteps -> ``(B, hidden)``."""
        embedded: Tensor = self.mlp(timestep_embedding(t, self.SINUSOIDS))
        return embedded


def sincos_positions(rows: int, columns: int, dim: int, *, step: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Fixed 2-D sine-cosine positions: the first half of the features encodes the column, the second the row.

    Args:
        rows: Patches from top to bottom.
        columns: Patches from left to right.
        dim: Features, a multiple of 4.
        step: Distance between neighbouring patches (row, column) in patches of the trained grid: a grid twice as fine
            as the trained one has step 0.5, so that it spans the same extent.

    Returns:
        ``(rows, columns, dim)`` float32, computed in float64.
    """
    if dim % 4:
        raise ValueError(f"dim must be a multiple of 4, got {dim}")
    frequencies = MAX_PERIOD ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))

    def encode(count: int, distance: float) -> Tensor:
        angles = torch.arange(count, dtype=torch.float64)[:, None] * distance * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # (count, dim / 2)

    by_row = encode(rows, step[0])[:, None].expand(rows, columns, -1)
    by_column = encode(columns, step[1])[None].expand(rows, columns, -1)
    return torch.cat([by_column, by_row], dim=-1).float()
