"""Read a CT series and describe it.

Usage: python examples/read_and_inspect.py SERIES
"""

from __future__ import annotations

import sys
from pathlib import Path

from qdm_med import read_volume


def main(source: Path) -> None:
    """Print grid and HU of a volume, one slice in memory at a time."""
    volume = read_volume(source)
    slices, rows, columns = volume.geometry.shape
    between_slices, between_rows, between_columns = volume.geometry.spacing
    print(f"{slices} slices of {rows} x {columns}")
    print(f"spacing {between_slices:.3f} x {between_rows:.3f} x {between_columns:.3f} mm (slice, row, column)")
    for warning in volume.provenance.warnings:
        print(f"warning: {warning}")
    for number, ct_slice in enumerate(volume):
        anatomy = ct_slice.hu[~ct_slice.padding]
        told = f"{anatomy.min():.0f} to {anatomy.max():.0f} HU, mean {anatomy.mean():.1f}" if anatomy.size else "empty"
        print(f"slice {number} at {ct_slice.position_mm:.2f} mm: {told}, {ct_slice.padding.mean():.0%} padding")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
