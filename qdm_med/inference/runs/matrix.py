"""Output on a requested grid: the magnification that reaches it, and the matrix that slices are averaged to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qdm_med.errors import ConfigError
from qdm_med.volume import Geometry


@dataclass(frozen=True)
class Grid:
    """Grid that outputs are asked for on, by their matrix or by their pixel spacing; without either, as they are magnified.

    Attributes:
        matrix: Pixels along the longer side; the other side keeps its proportion.
        spacing: Distance of rows and columns in mm, instead of ``matrix``.
    """

    matrix: int | None = None
    spacing: float | None = None

    def __post_init__(self) -> None:
        """Refuse two wishes at once, and spacings that are none."""
        if self.matrix is not None and self.spacing is not None:
            raise ConfigError("give either --matrix or --spacing")
        if self.spacing is not None and not self.spacing > 0:
            raise ConfigError(f"--spacing {self.spacing:g}: give millimetres, more than 0")

    @property
    def is_free(self) -> bool:
        """Whether no grid is asked for."""
        return self.matrix is None and self.spacing is None

    def matrix_for(self, source: Geometry) -> tuple[int, int] | None:
        """Work out rows and columns of the output of a source; ``None`` if no grid is asked for.

        The field of view stays, so that a spacing is met as nearly as whole pixels allow.

        >>> import numpy as np
        >>> wide = Geometry((30, 512, 400), np.diag([5.0, 0.7, 0.7, 1.0]))
        >>> Grid(matrix=1024).matrix_for(wide), Grid(spacing=0.35).matrix_for(wide)
        ((1024, 800), (1024, 800))

        Raises:
            ConfigError: If the output would be coarser than the source.
        """
        if self.is_free:
            return None
        shape = source.shape[1:]
        if self.matrix is not None:
            asked, sides = f"--matrix {self.matrix}", [round(side * self.matrix / max(shape)) for side in shape]
        else:
            wanted = self.spacing or 0.0
            asked = f"--spacing {wanted:g}"
            sides = [round(side * own / wanted) for side, own in zip(shape, source.spacing[1:], strict=True)]
        if any(new < old for new, old in zip(sides, shape, strict=True)):
            raise ConfigError(f"{asked}: would be coarser than the source, {shape[0]}x{shape[1]}; ask for more pixels")
        return sides[0], sides[1]


def scale_for(shape: tuple[int, int], matrix: tuple[int, int], scales: Sequence[int] = (4, 8)) -> int:
    """The smallest magnification from which a matrix can be averaged.

    >>> scale_for((512, 512), (1024, 1024)), scale_for((128, 128), (1000, 1000))
    (4, 8)

    Raises:
        ConfigError: If none is large enough.
    """
    enough = [scale for scale in scales if all(new <= scale * old for new, old in zip(matrix, shape, strict=True))]
    if not enough:
        largest = max(scales)
        raise ConfigError(
            f"a matrix of {matrix[0]}x{matrix[1]} is more than {largest} times {shape[0]}x{shape[1]}; ask for at most "
            f"{largest * max(shape)}"
        )
    return min(enough)
