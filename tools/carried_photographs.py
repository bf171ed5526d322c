"""Write the photographs that scikit-image carries as PNG files, to train the small configurations of photographs on.

Usage: python -m tools.carried_photographs FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import skimage.data
from PIL import Image

NAMES = ("astronaut", "camera", "cat", "coffee", "coins", "grass", "gravel", "hubble_deep_field", "moon", "rocket")
"""What shows something a camera saw, and comes with the package instead of by download."""


def main(folder: Path) -> None:
    """Write every one of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
