"""A slice with a question: HU in, figures out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from qdm_med.volume import FloatArray


class Finding(NamedTuple):
    """One figure read off one slice.

    Attributes:
        measure: Name of a :class:`qdm_med.evaluation.clinical.measures.Measure`.
        value: NaN where the slice does not show it.
    """

    measure: str
    value: float


class ClinicalCase(Protocol):
    """A slice for the methods, and the questions that are asked of their answers."""

    @property
    def title(self) -> str:
        """Description for people; nothing in it identifies a patient."""
        ...

    @property
    def scale(self) -> int:
        """Magnification that methods must reach."""
        ...

    @property
    def low_hu(self) -> FloatArray:
        """``(rows, columns)`` HU that methods see."""
        ...

    @property
    def truth_hu(self) -> FloatArray | None:
        """``(scale rows, scale columns)`` true HU, noise-free where it was drawn; ``None`` where it is unknown."""
        ...

    def findings(self, hu: FloatArray) -> Iterator[Finding]:
        """Read the figures off an answer, ``(scale rows, scale columns)`` HU."""
        ...
