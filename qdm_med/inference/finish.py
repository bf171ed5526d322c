"""Last steps of a slice, in HU: its tiles are fused, set into the interpolated source, and made true to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from qdm_med.inference.consistency import back_projected
from qdm_med.inference.fusion import Profile, TileFusion, fade_in, gaussian_anywhere, halo_profile
from qdm_med.inference.names import ConsistencyName
from qdm_med.inference.plan import MARGIN, Region, SlicePlan, Tile
from qdm_med.inference.tiling import AnyTiling, HaloTiling, Tiling
from qdm_med.intensity import IntensityMap
from qdm_med.resample import upsample
from qdm_med.volume import FloatArray


@dataclass(frozen=True)
class SliceFinisher:
    """Last steps of a slice, from the networks' answers to HU.

    Attributes:
        intensity: HU to [-1, 1].
        scale: Magnification.
        consistency: Agreement of the slice with its source.
        fwhm: Of the source's point spread in its pixels, if it is known.
        tiling: Tiles that are fused; their side does not matter.
    """

    intensity: IntensityMap
    scale: int
    consistency: ConsistencyName
    fwhm: float | None = None
    tiling: AnyTiling = Tiling()

    def finish(self, plan: SlicePlan, fine: Mapping[Tile, Tensor]) -> FloatArray:
        """Make ``(scale rows, scale columns)`` float32 HU of a slice.

        Args:
            plan: What the slice asked for.
            fine: Its super-resolved tiles, ``(1, h, w)`` in [-1, 1] each.
        """
        low, high = self.intensity.hu_range
        inside = np.clip(plan.source, low, high)
        answer = self.intensity.to_hu(self._fuse(plan, fine).numpy())
        hu = back_projected(answer, inside, self.scale, self.consistency, fwhm=self.fwhm)
        # Beyond the mapped range (metal on an extended scale) there is no network: those HU are magnified as they are.
        if (plan.source != inside).any():
            hu = hu + np.kron(plan.source - inside, np.ones((self.scale, self.scale), dtype=np.float32))
        return hu

    def _fuse(self, plan: SlicePlan, fine: Mapping[Tile, Tensor]) -> Tensor:
        """Set the fused tiles into the interpolated source, ``(scale H, scale W)``."""
        if fine and plan.is_one_tile:
            return fine[plan.tiles[0]][0]
        plain = interpolated(plan.image, self.scale)[0]
        if not fine:
            return plain
        box = self._on_output(plan.box)
        answer = fine[plan.tiles[0]][0] if len(plan.tiles) == 1 else self._fuse_tiles(plan, fine, plain).to(plain.dtype)
        plain[box] += fade_in(plan.box, plan.source.shape, margin=MARGIN, scale=self.scale) * (answer - plain[box])
        return plain

    def _fuse_tiles(self, plan: SlicePlan, fine: Mapping[Tile, Tensor], plain: Tensor) -> Tensor:
        """Fuse the tiles of the box, ``(h, w)`` float64; tiles without an active leaf are taken from ``plain``."""
        profile: Profile = gaussian_anywhere
        if isinstance(self.tiling, HaloTiling):
            profile = partial(halo_profile, scale=self.scale, overlap=self.tiling.overlap)
        fusion = TileFusion((1, *((side.stop - side.start) * self.scale for side in plan.box)), profile)
        for tile in plan.tiles:
            top, left = (side.start - start.start for side, start in zip(tile.region, plan.box, strict=True))
            added = fine[tile] if tile in fine else plain[self._on_output(tile.region)][None]
            fusion.add(added, top * self.scale, left * self.scale)
        return fusion.result()[0]

    def _on_output(self, region: Region) -> tuple[slice, slice]:
        """Convert a region of the source to the grid of the output."""
        rows, columns = (slice(side.start * self.scale, side.stop * self.scale) for side in region)
        return rows, columns


def interpolated(image: Tensor, scale: int) -> Tensor:
    """Interpolate ``(1, H, W)`` in [-1, 1] to ``(1, scale H, scale W)``: the image wherever nothing is refined."""
    return upsample(image[None], scale)[0].clamp(-1, 1)
