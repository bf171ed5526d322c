"""Options of an output, for whatever format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from qdm_med.errors import ConfigError

Private = Literal["keep", "drop"]
Equipment = Literal["keep", "standard"]
SyntaxName = Literal["explicit", "rle", "jpeg-ls", "jpeg-2000", "htj2k"]

_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"private": get_args(Private), "equipment": get_args(Equipment), "transfer_syntax": get_args(SyntaxName)}
)
"""Options that are names, and the names they know."""


@dataclass(frozen=True)
class WriterOptions:
    """Options of a writer; formats other than DICOM know ``overwrite`` and ``matrix`` alone.

    Attributes:
        overwrite: Replace an earlier output.
        private: ``"keep"`` private elements, but for large opaque ones, or ``"drop"`` them all.
        equipment: ``"keep"`` the scanner as General Equipment, or ``"standard"`` (PS3.3 C.12.1.1.5).
        transfer_syntax: Encoding of the pixels, always lossless.
        matrix: Rows and columns to which magnified slices are averaged by area; ``None``: they are written as they are.
    """

    overwrite: bool = False
    private: Private = "keep"
    equipment: Equipment = "keep"
    transfer_syntax: SyntaxName = "explicit"
    matrix: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse values that no writer knows."""
        for name, known in _NAMES.items():
            if (given := getattr(self, name)) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, got {given!r}")


DEFAULTS = WriterOptions()
"""A derived series as it is written if nobody asks for anything."""
