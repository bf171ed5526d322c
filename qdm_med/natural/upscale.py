"""Photographs of any size, super-resolved tile by tile in bounded memory."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from qdm_med.device import pick_device
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.inference.tiling import Tiling
from qdm_med.models.autoencoder.kl_vae import DOWNSAMPLING
from qdm_med.natural.band_fusion import BandFusion
from qdm_med.natural.checkpoint import NaturalCheckpoint, load_natural
from qdm_med.natural.images import Photo, read_photo
from qdm_med.natural.output import PhotoWriter, default_photo_output
from qdm_med.natural.tile import Region, TileCount, TileModel
from qdm_med.resample import upsample

GPU_TILES = 16
"""Tiles that go through an accelerator together; a CPU is full with one."""

ALPHA_MARGIN = 4
"""Source pixels around a band that its alpha is interpolated from: more than bicubic interpolation reaches."""

BAND_ROWS = 16
"""Source rows that are finished and written at once."""

Bands = NDArray[np.float32]


@dataclass(frozen=True)
class PhotoOptions:
    """Options with which a checkpoint is run on photographs.

    Attributes:
        seed: Key of the noise; the same seed gives the same pixels.
        steps: Sampling steps; ``None``: the checkpoint's.
        threshold: Quadtree threshold s; ``None``: the checkpoint's, 0 refines everything.
        tile: Side of a tile in source pixels; ``None``: what makes latents of the trained size.
    """

    seed: int = 0
    steps: int | None = None
    threshold: float | None = None
    tile: int | None = None

    def __post_init__(self) -> None:
        """Reject a negative seed."""
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, got {self.seed}")


@dataclass(frozen=True)
class PhotoSummary:
    """Summary of a run.

    Attributes:
        out: The file.
        rows: Its rows.
        columns: Its columns.
        tiles: Tiles that were computed.
        active_leaves: Share of active leaves, 0 to 1.
        windows: Downstream windows that were computed.
        windows_in_all: Downstream windows in all tiles.
        seconds: Wall time.
        model: Name of the model.
        model_sha256: Hash of its weights.
    """

    out: Path
    rows: int
    columns: int
    tiles: int
    active_leaves: float
    windows: int
    windows_in_all: int
    seconds: float
    model: str
    model_sha256: str


class PhotoUpscaler:
    """A checkpoint, ready to super-resolve photographs.

    Args:
        checkpoint: VQGAN and denoiser.
        options: Options of the run.
        device: Device of the networks.

    Raises:
        CheckpointError: If the checkpoint has no denoiser.
        ConfigError: If steps, threshold or tile are out of range.
    """

    def __init__(self, checkpoint: NaturalCheckpoint, options: PhotoOptions, *, device: torch.device) -> None:
        if checkpoint.denoiser is None:
            raise CheckpointError(
                f"model {checkpoint.card.name} is a VQGAN without a denoiser; train one with `qdm-med train`"
            )
        self.card, self.sha256, self.options = checkpoint.card, checkpoint.sha256, options
        trained = max(Tiling.least, checkpoint.denoiser.config.trained_size * DOWNSAMPLING // self.card.scale)
        self.tiling = Tiling.of(trained if options.tile is None else options.tile)
        self.model = TileModel(
            checkpoint.autoencoder.to(device),
            checkpoint.denoiser.to(device),
            self.card,
            device=device,
            seed=options.seed,
            steps=options.steps,
            threshold=options.threshold,
        )
        self._together = 1 if device.type == "cpu" else GPU_TILES
        self.counted = TileCount()
        self.tiles = 0

    @property
    def software(self) -> str:
        """Name of the maker, for the metadata of a photograph."""
        return (
            f"qdm-med {self.card.version}, {self.card.name} {self.sha256[:12]}, x{self.card.scale}, "
            f"{self.model.steps} steps, seed {self.options.seed}; detail is partly generated"
        )

    def bands(self, photo: Photo, progress: Callable[[int, int], None] | None = None) -> Iterator[Bands]:
        """Super-resolve a photograph from top to bottom.

        Args:
            photo: Of any size; grey comes back grey.
            progress: Called with the number of finished tiles and of all.

        Yields:
            ``(n, scale columns, channels)`` float32 in [0, 1], alpha last.
        """
        self.counted, self.tiles = TileCount(), 0
        filled = _filled(photo)
        key = identity_of(filled)
        scale, (rows, columns) = self.card.scale, photo.size
        fusion = BandFusion(3, min(self.tiling.tile, rows) * scale, columns * scale)
        tops, done = self.tiling.starts(rows), 0
        regions = list(self.tiling.regions(rows, columns))
        across = len(regions) // len(tops)
        for number, top in enumerate(tops):
            for tile, region in self._row_of_tiles(filled, regions[number * across : (number + 1) * across], key):
                fusion.add(tile, region[0].start * scale, region[1].start * scale)
                done += 1
                if progress is not None:
                    progress(done, len(regions))
            stop = tops[number + 1] if number + 1 < len(tops) else rows
            row = top
            for piece in fusion.release(stop * scale, BAND_ROWS * scale):
                yield self._finished(photo, piece, row)
                row += BAND_ROWS

    def _row_of_tiles(self, photo: Photo, regions: list[Region], key: str) -> Iterator[tuple[Tensor, Region]]:
        for start in range(0, len(regions), self._together):
            part = regions[start : start + self._together]
            tiles = torch.stack([torch.from_numpy(photo.unit(*region)) for region in part])
            self.counted += self.model.count(tiles)
            self.tiles += len(part)
            yield from zip(self.model(tiles, part, key), part, strict=True)

    def _finished(self, photo: Photo, band: Tensor, top: int) -> Bands:
        """Turn ``(3, n, columns)`` in [-1, 1] into ``(n, columns, channels)`` in [0, 1], grey and alpha as in the source."""
        rows = slice(top, top + band.shape[-2] // self.card.scale)
        unit = ((band + 1) / 2).clamp(0, 1).float()
        if photo.colour.shape[2] == 1:
            unit = unit.mean(dim=0, keepdim=True)
        if photo.alpha is not None:
            unit = torch.cat([unit, magnified_alpha(photo.alpha, photo.white, rows, self.card.scale)])
        return unit.movedim(0, -1).numpy()


def identity_of(photo: Photo) -> str:
    """Key of the noise: the pixels that the networks see, and no name or place of a file."""
    digest = hashlib.sha256(f"{photo.colour.dtype} {photo.colour.shape}".encode())
    digest.update(np.ascontiguousarray(photo.colour).data)
    return digest.hexdigest()


def magnified_alpha(alpha: NDArray[Any], white: int, rows: slice, scale: int) -> Tensor:
    """Interpolate the transparency of a band, ``(1, scale rows, scale columns)`` in [0, 1]: nothing is generated in it."""
    start, stop = max(0, rows.start - ALPHA_MARGIN), min(len(alpha), rows.stop + ALPHA_MARGIN)
    part = torch.from_numpy(alpha[start:stop].astype(np.float32) / white)[None, None]
    first = (rows.start - start) * scale
    return upsample(part, scale)[0, :, first : first + (rows.stop - rows.start) * scale].clamp(0, 1)


def _filled(photo: Photo) -> Photo:
    """Paint fully transparent pixels like their nearest visible one.

    What stands there is arbitrary, often black, and a network would draw its edge into what is seen.
    """
    if photo.alpha is None or photo.alpha.all() or not photo.alpha.any():
        return photo
    rows, columns = distance_transform_edt(photo.alpha == 0, return_distances=False, return_indices=True)
    return replace(photo, colour=photo.colour[rows, columns])


def upscale_photo(
    source: Path,
    out: Path | None,
    upscaler: PhotoUpscaler,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PhotoSummary:
    """Super-resolve a file into a file.

    Args:
        source: PNG, JPEG or WebP.
        out: File to create, of any of these formats; ``None``: beside the source.
        upscaler: Networks and options.
        overwrite: Whether a file there may be replaced.
        progress: As for :meth:`PhotoUpscaler.bands`.

    Raises:
        QdmMedError: If the source cannot be read or the output not written.
    """
    started = time.perf_counter()
    photo, scale = read_photo(source), upscaler.card.scale
    target = out or default_photo_output(source, scale)
    writer = PhotoWriter(photo, target, scale=scale, software=upscaler.software, overwrite=overwrite)
    with writer:
        for band in upscaler.bands(photo, progress):
            writer.write(band)
        place = writer.commit()
    counted = upscaler.counted
    return PhotoSummary(
        out=place,
        rows=photo.size[0] * scale,
        columns=photo.size[1] * scale,
        tiles=upscaler.tiles,
        active_leaves=counted.active / counted.leaves,
        windows=counted.windows,
        windows_in_all=counted.windows_in_all,
        seconds=time.perf_counter() - started,
        model=upscaler.card.name,
        model_sha256=upscaler.sha256,
    )


def load_photo_upscaler(checkpoint: Path, options: PhotoOptions, *, device: str = "auto") -> PhotoUpscaler:
    """Load a checkpoint for photographs, ready to run.

    Raises:
        CheckpointError: If the file is missing, damaged or invalid.
        ConfigError: If an option or the device is invalid.
    """
    return PhotoUpscaler(load_natural(checkpoint), options, device=pick_device(device))
