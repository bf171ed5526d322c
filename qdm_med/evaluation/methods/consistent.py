"""Another method's slice, made consistent with its input as ``qdm-med upscale`` does, so that like is compared with like."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qdm_med.evaluation.methods.method import Method, Restored
from qdm_med.inference.consistency import back_projected
from qdm_med.inference.names import ConsistencyName
from qdm_med.volume import FloatArray


@dataclass(frozen=True)
class Consistent:
    """A method without data consistency of its own, followed by back-projection.

    Attributes:
        method: The method whose slices are made consistent.
        consistency: Strictness, see :mod:`qdm_med.inference.consistency`.
    """

    method: Method
    consistency: ConsistencyName

    @property
    def name(self) -> str:
        """Name of the method, and how consistent it was made."""
        return f"{self.method.name}, consistency {self.consistency}"

    def restore(self, low_hu: FloatArray, scale: int) -> Restored:
        """Super-resolve one slice and bring it back to its input."""
        restored = self.method.restore(low_hu, scale)
        return replace(restored, hu=back_projected(restored.hu, low_hu, scale, self.consistency), seconds=None)
