"""A slice with a question: HU in, figures out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from qdm_med.volume import FloatArray


class Finding(NamedTuple):
    """One figure of one slice.

    Attributes:
        measure: Name of a :class:`qdm_med.evaluation.clinical.measures.Measure`.
        value: NaN where the slice does not show it.
    """

    measure: str
    value: float


class ClinicalCase(Protocol):
    """A slice that methods are given, and what is asked of their answer."""

    @property
    def title(self) -> str:
        """What it shows, for people; nothing that identifies a patient."""
        ...

    @property
    def scale(self) -> int:
        """Magnification that is asked for."""
        ...

    @property
    def low_hu(self) -> FloatArray:
        """``(rows, columns)`` HU that methods are given."""
        ...

    @property
    def truth_hu(self) -> FloatArray | None:
        """``(scale rows, scale columns)`` true HU, without noise where it was drawn; ``None`` where nobody knows."""
        ...

    def findings(self, hu: FloatArray) -> Iterator[Finding]:
        """Ask an answer, ``(scale rows, scale columns)`` HU."""
        ...
