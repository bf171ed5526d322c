"""Super-resolution of CT series with the Quadtree Diffusion Model (arXiv 2503.12015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdm_med._version import __version__
from qdm_med.volume import Geometry, Volume

if TYPE_CHECKING:
    from qdm_med.inference.options import UpscaleOptions
    from qdm_med.inference.upscaler import Upscaler, load_upscaler
    from qdm_med.io.read import read_volume

__all__ = ["Geometry", "UpscaleOptions", "Upscaler", "Volume", "__version__", "load_upscaler", "read_volume"]

_LAZY = {
    "UpscaleOptions": "qdm_med.inference.options",
    "Upscaler": "qdm_med.inference.upscaler",
    "load_upscaler": "qdm_med.inference.upscaler",
    "read_volume": "qdm_med.io.read",
}
"""Names whose modules import torch or pydicom: loaded when first used, so that ``qdm-med --help`` answers at once."""


def __getattr__(name: str) -> Any:
    """Load a lazy name."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
