"""Output on a requested matrix: the magnification that reaches it, and the matrix that slices are averaged to."""

from __future__ import annotations

from collections.abc import Sequence

from qdm_med.errors import ConfigError


def matrix_for(
    shape: tuple[int, int], spacing_mm: tuple[float, float], *, matrix: int | None = None, spacing: float | None = None
) -> tuple[int, int]:
    """Work out rows and columns of an output that was asked for by its matrix or its pixel spacing.

    The field of view stays, so that a spacing is met as nearly as whole pixels allow.

    >>> matrix_for((512, 400), (0.7, 0.7), matrix=1024), matrix_for((512, 512), (0.7, 0.7), spacing=0.35)
    ((1024, 800), (1024, 1024))

    Args:
        shape: Rows and columns of the source.
        spacing_mm: Distance of its rows and of its columns in mm.
        matrix: Pixels along the longer side; the other side keeps its proportion.
        spacing: Distance of rows and columns in mm, instead of ``matrix``.

    Raises:
        ConfigError: If neither or both are given, or the output would be no finer than the source.
    """
    if (matrix is None) == (spacing is None):
        raise ConfigError("give either --matrix or --spacing")
    if matrix is not None:
        asked, sides = f"--matrix {matrix}", [round(side * matrix / max(shape)) for side in shape]
    else:
        wanted = spacing or 0.0
        if wanted <= 0:
            raise ConfigError(f"--spacing {wanted:g}: give millimetres, more than 0")
        asked = f"--spacing {wanted:g}"
        sides = [round(side * own / wanted) for side, own in zip(shape, spacing_mm, strict=True)]
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
