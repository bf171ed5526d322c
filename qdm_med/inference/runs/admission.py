"""Admission of a series to a run: in tiles that keep within its memory, looked at, and refused if that is wanted."""

from __future__ import annotations

import os
from pathlib import Path

from qdm_med.inference.runs.preflight import Preflight, look_at
from qdm_med.inference.upscaler import Upscaler
from qdm_med.io.dicom.file import shown
from qdm_med.volume import Volume


def admitted(
    volume: Volume,
    upscaler: Upscaler,
    *,
    strict: bool = False,
    max_memory: int | None = None,
    uncertainty: bool = False,
) -> Preflight:
    """Make an upscaler ready for a volume, before its first slice is computed.

    Args:
        volume: The source.
        upscaler: Networks and options; its tiles become those that the limit asks for with this volume's slices.
        strict: Refuse a source that is not in HU, or unlike what the model was trained on, instead of warning.
        max_memory: Bytes that the run may take; ``None``: no limit.
        uncertainty: Whether the samples' standard deviation is made, too, which takes more memory.

    Returns:
        Findings about the source, with the warnings to give.

    Raises:
        ConfigError: If even the smallest tiles need more memory, or uncertainty is wanted of fewer than two samples.
        CheckpointError: If the model's card says nonsense about its training.
        SeriesError: If the source is refused or cannot be read.
    """
    if uncertainty:
        upscaler.require_samples()
    if max_memory is not None:
        upscaler.keep_below(max_memory, volume.geometry.shape[1:], uncertainty=uncertainty)
    seen = look_at(volume, upscaler.card)
    if strict:
        seen.refuse(_name_of(volume))
    return seen


def _name_of(volume: Volume) -> str:
    """Common folder of a volume's files, to name it in a message."""
    files = volume.provenance.files
    return shown(Path(os.path.commonpath(files))) if files else "the volume"
