"""Super-resolve an array of HU without any file.

Usage: python examples/upscale_from_python.py
"""

from __future__ import annotations

import numpy as np

from qdm_med import Geometry, UpscaleOptions, Volume, load_upscaler


def main() -> None:
    """Upscale a small phantom: a disc of soft tissue with a bone inside, in air."""
    rows, columns = np.mgrid[:48, :64]
    radius = np.hypot(rows - 24, columns - 32)
    hu = np.select([radius < 6, radius < 20], [900.0, 40.0], default=-1000.0).astype(np.float32)
    volume = Volume.from_array(hu[None], Geometry((1, 48, 64), np.diag([5.0, 0.8, 0.8, 1.0])))

    upscaler = load_upscaler(options=UpscaleOptions(scale=8, seed=1), device="cpu")
    fine_geometry = volume.geometry.upscaled_in_plane(8)
    for ct_slice in volume:
        result = upscaler.upscale_slice(ct_slice, volume.provenance.series_key)
        print(f"{ct_slice.hu.shape} -> {result.hu.shape}, pixel {fine_geometry.spacing[1]} mm")
        print(f"{result.leaves.mean():.0%} of the source's pixels lie in active leaves")
        print(f"mean {ct_slice.hu.mean():.1f} HU before, {result.hu.mean():.1f} HU after")


if __name__ == "__main__":
    main()
