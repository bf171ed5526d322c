"""Describe a folder of images, a slice store or a checkpoint in JSON types: ``qdm-med info``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qdm_med.checkpoints.image_model import read_image_card
from qdm_med.checkpoints.model import read_card
from qdm_med.data.store.slices import HEADER_FILE, SliceStore
from qdm_med.errors import SeriesError
from qdm_med.intensity import IntensityMap
from qdm_med.io.describe import describe_tree
from qdm_med.io.read import read_volume
from qdm_med.natural.checkpoint import is_natural, load_natural
from qdm_med.serialise import to_mapping

TYPICAL_HU: Mapping[str, float] = MappingProxyType(
    {
        "lung": -850.0,
        "fat": -100.0,
        "soft tissue": 40.0,
        "contrast medium": 300.0,
        "spongy bone": 700.0,
        "cortex": 1200.0,
    }
)
"""HU at which a tissue is usually found."""


def describe(path: Path) -> dict[str, Any]:
    """Describe ``path``, whichever of these it is.

    Raises:
        QdmMedError: If it is missing or nothing that this tool knows.
    """
    if not path.exists():
        raise SeriesError(f"{path}: no such file or folder; give a folder of images, a slice store or a checkpoint")
    if path.suffix == ".safetensors":
        return _checkpoint(path)
    if (path / HEADER_FILE).is_file():
        return _store(path)
    if path.is_file() and path.name.lower().endswith((".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")):
        return _volume(path)
    return {"kind": "folder", "path": str(path), "series": [asdict(series) for series in describe_tree(path)]}


def _checkpoint(path: Path) -> dict[str, Any]:
    if is_natural(path):
        natural = load_natural(path)
        return {
            "kind": "natural-image checkpoint",
            "path": str(path),
            "sha256": natural.sha256,
            **to_mapping(natural.card),
        }
    if path.is_file() and (image_card := read_image_card(path)):
        return {"kind": "image network", "path": str(path), **to_mapping(image_card)}
    card, sha256 = read_card(path)
    worth = {"hu_per_network_unit": hu_per_network_unit(card.intensity)}
    return {"kind": "checkpoint", "path": str(path), "sha256": sha256, **to_mapping(card), **worth}


def hu_per_network_unit(intensity: IntensityMap) -> dict[str, str]:
    """Worth of one network unit in HU, by tissue.

    >>> from qdm_med.intensity import HuWindow
    >>> hu_per_network_unit(HuWindow())["soft tissue (40 HU)"], hu_per_network_unit(HuWindow())["lung (-850 HU)"]
    ('200', 'clipped')
    """
    low, high = intensity.hu_range
    return {
        f"{tissue} ({hu:g} HU)": f"{intensity.hu_per_unit(hu):.0f}" if low <= hu <= high else "clipped"
        for tissue, hu in TYPICAL_HU.items()
    }


def _store(path: Path) -> dict[str, Any]:
    store = SliceStore.open(path)
    splits = sorted({record.split for record in store.records})
    patients = {split: len({each.patient for each in store.records if each.split == split}) for split in splits}
    return {
        "kind": "slice store",
        "path": str(path),
        "slices": dict(Counter(record.split for record in store.records)),
        "patients": patients,
        "sources": dict(Counter(record.source for record in store.records)),
        "split_rule": store.split_rule,
    }


def _volume(path: Path) -> dict[str, Any]:
    volume = read_volume(path)
    return {
        "kind": "volume",
        "path": str(path),
        "shape": list(volume.geometry.shape),
        "spacing_mm": [round(value, 4) for value in volume.geometry.spacing],
        "warnings": list(volume.provenance.warnings),
    }


def as_text(told: Any, indent: int = 0) -> str:
    """Lay a description out for reading, a key a line."""
    pad = "  " * indent
    if isinstance(told, Mapping):
        return "\n".join(_entry(f"{pad}{key}:", value, indent) for key, value in told.items())
    if isinstance(told, Sequence) and not isinstance(told, str):
        return "\n".join(_entry(f"{pad}-", value, indent) for value in told)
    return f"{pad}{told}"


def _entry(head: str, value: Any, indent: int) -> str:
    nested = isinstance(value, Mapping | list | tuple) and value
    flat = isinstance(value, list | tuple) and not any(isinstance(item, Mapping | list | tuple) for item in value)
    if nested and not flat:
        return f"{head}\n{as_text(value, indent + 1)}"
    return f"{head} {', '.join(map(str, value)) if flat else value}"
