"""Photographs for training and validation: a folder with ``train`` and ``val``, and crops of both."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qdm_med.errors import DataError
from qdm_med.natural.images import Photo, list_photos, read_photo

CACHE_BYTES = 2**30
"""Decoded photographs that are kept in memory."""


class PhotoStore:
    """A folder with the subfolders ``train`` and ``val``, each with photographs at any depth.

    Args:
        folder: The folder.

    Raises:
        DataError: If a subfolder is missing or empty.
    """

    def __init__(self, folder: Path) -> None:
        for split in ("train", "val"):
            if not (folder / split).is_dir():
                raise DataError(f"{folder}: needs a folder {split} with photographs; make {folder / split}")
        self.train, self.val = list_photos(folder / "train"), list_photos(folder / "val")
        self._cache: OrderedDict[Path, Photo] = OrderedDict()

    def photo(self, path: Path) -> Photo:
        """Read a photograph, or take it from memory."""
        if path in self._cache:
            self._cache.move_to_end(path)
            return self._cache[path]
        photo = read_photo(path)
        self._cache[path] = photo
        while len(self._cache) > 1 and sum(one.colour.nbytes for one in self._cache.values()) > CACHE_BYTES:
            self._cache.popitem(last=False)
        return photo

    def require(self, count: int, side: int) -> None:
        """Refuse the first ``count`` validation photographs that are smaller than ``side``, before hours of training.

        Raises:
            DataError: If one is, or cannot be read.
        """
        for path in self.val[:count]:
            require_side(self.photo(path), side)

    def crop(self, rng: np.random.Generator, side: int, resized_share: float) -> Tensor:
        """Draw a crop of a training photograph, ``(3, side, side)`` in [-1, 1], half of the time mirrored.

        Args:
            rng: Draws everything.
            side: Side of the crop in pixels.
            resized_share: How often the photograph's shorter side is first resized to ``side``, so that the crop shows
                nearly all of it; a photograph that is smaller always is.
        """
        photo = self.photo(self.train[rng.integers(len(self.train))])
        if rng.random() < resized_share or min(photo.size) < side:
            image = shorter_side_to(torch.from_numpy(photo.unit()), side)
            row, column = (int(rng.integers(length - side + 1)) for length in image.shape[-2:])
            crop = image[:, row : row + side, column : column + side]
        else:
            row, column = (int(rng.integers(length - side + 1)) for length in photo.size)
            crop = torch.from_numpy(photo.unit(slice(row, row + side), slice(column, column + side)))
        return crop.flip(-1) if rng.random() < 0.5 else crop


def shorter_side_to(image: Tensor, side: int) -> Tensor:
    """Resize ``(3, H, W)`` in [-1, 1] so that the shorter side is ``side``, anti-aliased where it shrinks."""
    height, width = image.shape[-2:]
    factor = side / min(height, width)
    size = (max(side, round(height * factor)), max(side, round(width * factor)))
    return F.interpolate(image[None], size=size, mode="bicubic", antialias=True)[0].clamp(-1, 1)


def centre_crop(photo: Photo, side: int) -> Tensor:
    """Cut out the middle of a photograph, ``(3, side, side)`` in [-1, 1].

    Raises:
        DataError: If it is smaller.
    """
    require_side(photo, side)
    row, column = ((length - side) // 2 for length in photo.size)
    return torch.from_numpy(photo.unit(slice(row, row + side), slice(column, column + side)))


def require_side(photo: Photo, side: int) -> None:
    """Refuse a photograph that is smaller than ``side``.

    Raises:
        DataError: If it is.
    """
    if min(photo.size) < side:
        raise DataError(f"{photo.path}: has {photo.size[0]}x{photo.size[1]} pixels, less than {side}; leave it out")
