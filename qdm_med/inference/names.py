"""Names that options know, stated once and without torch, so that commands can offer them at once."""

from __future__ import annotations

from typing import Literal

ModeName = Literal["faithful", "balanced", "detailed"]
"""Least error and invention, the default, or most detail."""

ConsistencyName = Literal["off", "local", "spread", "soft", "hard"]
"""Agreement of a slice with its source, see :mod:`qdm_med.inference.consistency`."""

FusionName = Literal["gaussian", "halo"]
"""Fusion of tiles into one slice."""

Precision = Literal["float32", "bfloat16"]
"""In which the networks' layers compute."""
