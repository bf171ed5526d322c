"""Checks that all degradations share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from qdm_med.errors import DataError


class Scaled(Protocol):
    """Parameters of any degradation, as far as the checks look at them."""

    @property
    def scale(self) -> int:
        """High-resolution pixels a low-resolution pixel."""
        ...


def require_one_scale(high_res: Tensor, params: Sequence[Scaled]) -> int:
    """Check that parameters fit their images and return their one scale.

    Args:
        high_res: ``(B, C, H, W)``.
        params: One image's parameters each.

    Raises:
        DataError: If their number is not B, their scales differ, or H or W is no multiple of the scale.
    """
    scales = {one.scale for one in params}
    if len(params) != len(high_res) or len(scales) != 1:
        raise DataError(f"{len(high_res)} images need as many parameters of one scale, got {len(params)} of {scales}")
    (scale,) = scales
    height, width = high_res.shape[-2:]
    if height % scale or width % scale:
        raise DataError(f"an image of {height}x{width} cannot be degraded by {scale}; crop it to a multiple of that")
    return scale
