"""Names of the quadtrees, without torch, so that a command can offer them before anything heavy is loaded."""

from __future__ import annotations

from typing import Literal

QuadtreeKind = Literal["paper", "adaptive"]
"""One level of fixed blocks, or several levels above the noise."""
