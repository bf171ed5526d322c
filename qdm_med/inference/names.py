"""Names that options know, stated once and without torch, so that commands can offer them at once."""

from __future__ import annotations

from typing import Literal

ModeName = Literal["faithful", "balanced", "detailed"]
"""Least error and invention, the default, or most detail."""

ConsistencyName = Literal["off", "local", "spread", "soft", "hard"]
"""How far a slice agrees with its source, see :mod:`qdm_med.inference.consistency`."""

FusionName = Literal["gaussian", "halo"]
"""How tiles become one slice."""

Precision = Literal["float32", "bfloat16"]
"""In which the networks' layers compute."""
