"""Pictures that explain a plan: where detail will be generated, and why not elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qdm_med.errors import SeriesError
from qdm_med.files import whole_folder
from qdm_med.inference.plan import SlicePlan
from qdm_med.inference.upscaler import Upscaler
from qdm_med.volume import Volume

SMALLEST_SIDE = 512
"""Pictures are magnified by a whole number until their longer side has so many pixels."""

ACTIVE, BOX = (255, 140, 0), (0, 170, 255)
"""Colours of active leaves and of the box that goes through the networks."""


def overlay(plan: SlicePlan) -> NDArray[np.uint8]:
    """Draw the source with its active leaves tinted and the box of the networks outlined.

    Returns:
        ``(rows, columns, 3)`` RGB, magnified.
    """
    factor = max(1, -(-SMALLEST_SIDE // max(plan.source.shape)))
    grey = np.repeat((plan.image[0].numpy()[..., None] + 1) / 2 * 255, 3, axis=-1)
    tinted = np.where(plan.leaves[..., None], 0.55 * grey + 0.45 * np.array(ACTIVE), grey)
    picture = np.kron(tinted, np.ones((factor, factor, 1))).round().clip(0, 255).astype(np.uint8)
    rows, columns = (slice(side.start * factor, side.stop * factor) for side in plan.box)
    if rows.stop > rows.start:
        picture[[rows.start, rows.stop - 1], columns] = BOX
        picture[rows, [columns.start, columns.stop - 1]] = BOX
    return picture


def explain_volume(
    volume: Volume, folder: Path, upscaler: Upscaler, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> int:
    """Write one picture a slice, ``00001.png`` and so on, in slice order; no network is run.

    Args:
        volume: The source.
        folder: Folder to create, or an empty one.
        upscaler: Quadtree, tiles and scale.
        progress: Told of every slice.

    Returns:
        Number of pictures.

    Raises:
        QdmMedError: If the source is invalid or the folder is taken.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SeriesError(f"{folder}: not an empty folder; choose another --explain-quadtree")
    try:
        with whole_folder(folder) as partial:
            for index, ct_slice in enumerate(volume, start=1):
                Image.fromarray(overlay(upscaler.planner.plan(ct_slice))).save(partial / f"{index:05d}.png")
                progress(index, len(volume))
    except OSError as error:
        raise SeriesError(f"{folder}: {error.strerror or error}; choose another --explain-quadtree") from None
    return len(volume)
