"""Another method's slice, made consistent with its input: what consistency costs and brings, in the same table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from qdm_med.evaluation.methods.method import Method, Restored
from qdm_med.inference.consistency import hard_consistency, soft_consistency
from qdm_med.volume import FloatArray


@dataclass(frozen=True)
class Consistent:
    """A method followed by back-projection.

    Attributes:
        name: Name in tables.
        method: What is made consistent.
        match: ``(fine, source, scale)`` -> the slice with the source's block means.
    """

    name: str
    method: Method
    match: Callable[[FloatArray, FloatArray, int], FloatArray]

    def restore(self, low_hu: FloatArray, scale: int) -> Restored:
        """Super-resolve one slice and match its block means."""
        restored = self.method.restore(low_hu, scale)
        return replace(restored, hu=self.match(restored.hu, low_hu, scale), seconds=None)


def hard(method: Method) -> Consistent:
    """Block means are the input's exactly."""
    return Consistent(f"{method.name}, hard consistency", method, hard_consistency)


def soft(method: Method) -> Consistent:
    """Block means are the input's to within its noise."""
    return Consistent(f"{method.name}, soft consistency", method, soft_consistency)
