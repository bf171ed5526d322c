"""Blank figures of matplotlib, where it is installed."""

from __future__ import annotations

from typing import Any

from qdm_med.errors import ConfigError


def new_figure(width: float, height: float) -> Any:
    """Make a matplotlib figure of so many inches.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # an extra: figures are not needed for the numbers
    except ImportError:
        raise ConfigError("the plot needs matplotlib; install qdm-med[plots]") from None
    return Figure(figsize=(width, height), layout="constrained")
