"""Transformer blocks of the two streams (arXiv 2503.12015, Figure 6): adaLN-Zero around attention and MLP.

The blocks are functions of tokens and of their modulation, which each makes of the timestep alone and which can therefore be
worked out once for many tokens, slices and samples. Which tokens there are is the streams' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qdm_med.models.qdm.attention import CrossAttention, SelfAttention, WindowAttention
from qdm_med.models.qdm.windows import WindowPlan

NORM_EPS = 1e-6


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Shift and scale normalised tokens; ``shift`` and ``scale`` broadcast against ``x``."""
    return torch.addcmul(shift, x, 1 + scale)


def layer_norm(x: Tensor) -> Tensor:
    """Normalise the last dimension, without parameters."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Build a linear layer that starts as zero: the Zero of adaLN-Zero."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def modulation(hidden: int, parts: int) -> nn.Sequential:
    """Map a ``(B, hidden)`` conditioning to ``parts`` modulation vectors, ``(B, parts * hidden)``."""
    return nn.Sequential(nn.SiLU(), zero_linear(hidden, parts * hidden))


def mlp(hidden: int, ratio: int) -> nn.Sequential:
    """Two layers with tanh-GELU between them."""
    return nn.Sequential(
        nn.Linear(hidden, ratio * hidden), nn.GELU(approximate="tanh"), nn.Linear(ratio * hidden, hidden)
    )


class Modulated(nn.Module):
    """A layer whose ``modulation`` tells it the timestep: factors and summands of its features."""

    modulation: nn.Module

    def modulate_by(self, condition: Tensor) -> Tensor:
        """Compute from a ``(B, D)`` conditioning the ``(B, parts * features)`` that :meth:`forward` takes."""
        vectors: Tensor = self.modulation(condition)
        return vectors


def modulations(layers: nn.ModuleList, condition: Tensor) -> tuple[Tensor, ...]:
    """Compute the modulation of some :class:`Modulated` layers from a ``(B, D)`` conditioning."""
    return tuple(layer.modulate_by(condition) for layer in cast("Iterable[Modulated]", layers))


class DiTBlock(Modulated):
    """Self-attention and MLP, each gated by the conditioning (DiT's adaLN-Zero block)."""

    def __init__(self, hidden: int, heads: int, mlp_ratio: int, attention: SelfAttention) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = mlp(hidden, mlp_ratio)
        self.modulation = modulation(hidden, 6)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """``(B, rows, columns, D)`` tokens and their modulation, ``(B, 6 D)`` or ``(1, 6 D)`` -> ``(B, rows, columns, D)``."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation[:, None, None].chunk(6, dim=-1)
        x = x + gate1 * self.attention(modulate(layer_norm(x), shift1, scale1))
        return x + gate2 * self.mlp(modulate(layer_norm(x), shift2, scale2))


class CrossAttentionBlock(Modulated):
    """Attention inside a window, MLP, attention to the upstream tokens, MLP (arXiv 2503.12015, Figure 6)."""

    def __init__(self, hidden: int, heads: int, mlp_ratio: int, to_context: Callable[[], CrossAttention]) -> None:
        super().__init__()
        self.window_attention = WindowAttention(hidden, heads)
        self.window_mlp = mlp(hidden, mlp_ratio)
        self.window_modulation = modulation(hidden, 6)
        self.context_attention = to_context()
        self.context_mlp = mlp(hidden, mlp_ratio)
        self.context_modulation = modulation(hidden, 6)

    def modulate_by(self, condition: Tensor) -> Tensor:
        """Compute from a ``(B, D)`` conditioning ``(B, 12 D)`` modulation, the window's and then the context's."""
        return torch.cat([self.window_modulation(condition), self.context_modulation(condition)], dim=-1)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        keys_values: Tensor,
        plan: WindowPlan,
        after: WindowPlan,
    ) -> Tensor:
        """Refine the tokens of windows.

        Tokens meet in the window attention only. What comes behind it need not be computed for tokens that no later
        block will attend to: with a narrowed ``after`` the last block leaves out those of inactive leaves.

        Args:
            x: Rows of ``plan``, ``(R, L, D)``.
            modulation: ``(B, 12 D)`` of each image, or ``(1, 12 D)`` of all.
            keys_values: Upstream tokens of each image, projected by ``context_attention``.
            plan: Which rows are given.
            after: Which rows are wanted: the same, or those of the narrowed plan.

        Returns:
            Rows of ``after``.
        """
        window, context = modulation.chunk(2, dim=-1)
        shift1, scale1 = plan.per_row(window).chunk(6, dim=-1)[:2]
        gate1, shift2, scale2, gate2 = after.per_row(window).chunk(6, dim=-1)[2:]
        attended = self.window_attention(modulate(layer_norm(x), shift1, scale1), plan, after)
        kept = plan.narrow(x) if after.leaf_mode and not plan.leaf_mode else x
        x = kept + gate1 * attended
        x = x + gate2 * self.window_mlp(modulate(layer_norm(x), shift2, scale2))
        shift1, scale1, gate1, shift2, scale2, gate2 = after.per_row(context).chunk(6, dim=-1)
        x = x + gate1 * self.context_attention(modulate(layer_norm(x), shift1, scale1), keys_values, after)
        return x + gate2 * self.context_mlp(modulate(layer_norm(x), shift2, scale2))


class FinalLayer(Modulated):
    """Modulated normalisation and a linear map from a token to its patch, zero at the start."""

    def __init__(self, hidden: int, patch: int, channels: int) -> None:
        super().__init__()
        self.modulation = modulation(hidden, 2)
        self.linear = zero_linear(hidden, patch * patch * channels)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """``(..., D)`` tokens and their modulation, ``(..., 2 D)``, which broadcasts -> ``(..., patch * patch * channels)``."""
        shift, scale = modulation.chunk(2, dim=-1)
        patches: Tensor = self.linear(modulate(layer_norm(x), shift, scale))
        return patches
