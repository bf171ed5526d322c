"""Plan of one slice, made before anything is computed: its tiles, their active leaves, and its noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qdm_med.diffusion.noise import SliceNoise
from qdm_med.inference.padding import fill_padding, in_whole_windows
from qdm_med.inference.source.anatomy import anatomy_mask
from qdm_med.inference.tiling import AnyTiling
from qdm_med.intensity import IntensityMap
from qdm_med.models.conditioning import active_leaves, leaf_grid
from qdm_med.models.network import LatentNetworkConfig
from qdm_med.models.qdm.quadtree import Quadtree
from qdm_med.volume import BoolArray, CtSlice, FloatArray

MARGIN = 4
"""Source pixels around the anatomy in which the network's answer fades into the interpolated source."""

Region = tuple[slice, slice]
"""Rows and columns in source pixels."""


@dataclass(frozen=True, eq=False)
class Tile:
    """Part of a slice that passes the networks at once.

    Attributes:
        region: Its place.
        image: ``(1, rows, columns)`` in [-1, 1], the region reflected to whole windows: what the networks see.
        leaves: ``(1, rows, columns)`` bool, active leaves of the image; without one the source is interpolated.
        active: Number of active leaves.
        windows: Downstream windows that contain one.
    """

    region: Region
    image: Tensor
    leaves: Tensor
    active: int
    windows: int

    @property
    def seen(self) -> Region:
        """Place of the tile's image: the region, and the part beyond the border of the slice."""
        rows, columns = (
            slice(side.start, side.start + seen) for side, seen in zip(self.region, self.image.shape[-2:], strict=True)
        )
        return rows, columns

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the region in source pixels."""
        rows, columns = (side.stop - side.start for side in self.region)
        return rows, columns


@dataclass(frozen=True)
class SlicePlan:
    """A slice made ready, with the work that it takes.

    Attributes:
        source: ``(rows, columns)`` HU, padding filled.
        image: ``(1, rows, columns)`` in [-1, 1].
        box: The part of the slice that the tiles cover; elsewhere the source is interpolated.
        tiles: Tiles of the box, row by row.
        windows_in_all: Downstream windows that a dense network would compute for the whole slice.
        noise: Noise of the slice.
    """

    source: FloatArray
    image: Tensor
    box: Region
    tiles: tuple[Tile, ...]
    windows_in_all: int
    noise: SliceNoise

    @property
    def active_tiles(self) -> tuple[Tile, ...]:
        """Tiles with work for the networks."""
        return tuple(tile for tile in self.tiles if tile.windows)

    @property
    def is_one_tile(self) -> bool:
        """Whether one tile covers the whole slice exactly."""
        return len(self.tiles) == 1 and self.tiles[0].size == self.source.shape

    @property
    def active(self) -> int:
        """Number of active leaves to compute; where tiles overlap, counted in each of them."""
        return sum(tile.active for tile in self.tiles)

    @property
    def windows(self) -> int:
        """Number of downstream windows to compute."""
        return sum(tile.windows for tile in self.tiles)

    @property
    def leaves(self) -> BoolArray:
        """``(rows, columns)`` bool, active leaves on the grid of the source's pixels: the places of generated detail."""
        marked = np.zeros(self.source.shape, dtype=bool)
        for tile in self.tiles:
            part = marked[tile.region]
            part |= _on_grid(tile.leaves[0], tile.image.shape[-2:])[: part.shape[0], : part.shape[1]]
        return marked


def where_to_look(source: FloatArray, padding: BoolArray, quadtree: Quadtree) -> BoolArray:
    """Mark where a quadtree may find leaves: the adaptive one in the patient only, unless it is to refine everything.

    Args:
        source: ``(rows, columns)`` HU, padding filled.
        padding: ``(rows, columns)`` bool, True in pixels outside the scanned region.
        quadtree: Rule for the active leaves.

    Returns:
        ``(rows, columns)`` bool.
    """
    if quadtree.in_patient_only:
        return anatomy_mask(source, padding)
    return np.ones(source.shape, dtype=bool)


@dataclass(frozen=True)
class SlicePlanner:
    """Planner of slices; it decides from the source alone.

    With the adaptive quadtree leaves lie in the patient only and the tiles cover no more than the patient. With the
    paper's, every part of the slice is looked at and the tiles cover all of it.

    Attributes:
        intensity: HU to [-1, 1].
        quadtree: Rule for the active leaves.
        tiling: Tiles of a large slice.
        scale: Magnification.
        denoiser: Shape of the network, for its leaves and windows.
        seed: The user's seed, a part of the key of the noise.
    """

    intensity: IntensityMap
    quadtree: Quadtree
    tiling: AnyTiling
    scale: int
    denoiser: LatentNetworkConfig
    seed: int = 0

    def plan(self, ct_slice: CtSlice, series_key: str = "") -> SlicePlan:
        """Plan one slice; only its noise depends on the identity of its series."""
        source = fill_padding(ct_slice.hu, ct_slice.padding)
        image = torch.from_numpy(self.intensity.to_unit(source))[None]
        within = where_to_look(source, ct_slice.padding, self.quadtree)
        box = self._box(within)
        tiles = tuple(self._tile(image, within, region) for region in _offset(self.tiling, box))
        regions = self.tiling.regions(*source.shape)
        noise = SliceNoise(self.seed, series_key, ct_slice.position_mm)
        return SlicePlan(source, image, box, tiles, sum(map(self._windows_in, regions)), noise)

    def _box(self, within: BoolArray) -> Region:
        """Bounding box of the anatomy and its margin, in whole windows; empty if there is none."""
        window = self._window_side()
        sides = []
        for axis, length in enumerate(within.shape):
            found = np.flatnonzero(within.any(axis=1 - axis))
            if not len(found):
                return slice(0, 0), slice(0, 0)
            start = max(0, (found[0] - MARGIN) // window * window)
            stop = min(length, -(-(found[-1] + 1 + MARGIN) // window) * window)
            sides.append(slice(int(start), int(stop)))
        return sides[0], sides[1]

    def _tile(self, image: Tensor, within: BoolArray, region: Region) -> Tile:
        tile = in_whole_windows(image[:, region[0], region[1]], self._window_side())
        inside = in_whole_windows(torch.from_numpy(within[region])[None, None], self._window_side())
        grid = leaf_grid((tile.shape[-2], tile.shape[-1]), self.scale, self.denoiser.downstream_patch)
        leaves = active_leaves(tile[None], self.quadtree, grid, inside)
        windows = F.max_pool2d(leaves.float(), self.denoiser.window)
        return Tile(region, tile, leaves, int(leaves.sum()), int(windows.sum()))

    def _windows_in(self, region: Region) -> int:
        rows, columns = (-(-(side.stop - side.start) // self._window_side()) for side in region)
        return rows * columns

    def _window_side(self) -> int:
        """Side of a downstream window in source pixels, at least 1."""
        per_latent = leaf_grid((1, 1), self.scale, 1)[0]
        return max(1, self.denoiser.window_size // per_latent)


def _offset(tiling: AnyTiling, box: Region) -> Iterator[Region]:
    """Lay the tiles that cover a box."""
    rows, columns = box
    if rows.stop == rows.start:
        return
    for tile_rows, tile_columns in tiling.regions(rows.stop - rows.start, columns.stop - columns.start):
        yield (
            slice(rows.start + tile_rows.start, rows.start + tile_rows.stop),
            slice(columns.start + tile_columns.start, columns.start + tile_columns.stop),
        )


def _on_grid(leaves: Tensor, shape: tuple[int, ...]) -> BoolArray:
    """Lay a tile's leaves onto the grid of its source pixels."""
    found: BoolArray = (F.interpolate(leaves[None, None].float(), size=shape, mode="nearest")[0, 0] > 0).numpy()
    return found
