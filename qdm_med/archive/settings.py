"""Settings that determine the outputs of an archive: options, model, versions; outputs of two settings are never mixed."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import metadata
from types import MappingProxyType
from typing import Any

import torch

from qdm_med._version import __version__
from qdm_med.checkpoints.model import ModelCard
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.matrix import Grid
from qdm_med.io.options import DEFAULTS, WriterOptions
from qdm_med.serialise import from_mapping, to_mapping

RECORDED = ("numpy", "pydicom", "nibabel", "scipy", "dask", "distributed")
"""Packages whose versions stand in receipts and do not determine pixels."""

LATER: Mapping[str, Any] = MappingProxyType({"spacing": None, "rescale_type_is_hu": False})
"""Settings that archives of earlier versions do not state: left out where they have these values, so that the keys of those
archives stay what they were."""


def versions() -> dict[str, str]:
    """Versions that determine pixels; all processes of a run must agree on them."""
    return {"qdm_med": __version__, "torch": torch.__version__.partition("+")[0]}


def machine() -> dict[str, str]:
    """Facts about the worker for a receipt; none of them names the machine or its user."""
    installed = {name: _version(name) for name in RECORDED}
    return {
        "python": platform.python_version(),
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": str(torch.get_num_threads()),
        **{name: version for name, version in installed.items() if version},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class Settings:
    """Settings that every series of an archive is made with.

    Attributes:
        options: Options of the model's run, every default filled in; see :func:`settled`.
        model: Its name.
        model_sha256: Hash of its weights.
        device: Kind of device, ``"cpu"``, ``"cuda"`` or ``"mps"``: their pixels may differ in the last bit.
        uncertainty: Write the standard deviation of the samples, too.
        strict: Refuse series unlike the model's training data.
        max_memory: Bytes that a series may take; ``None``: no limit.
        force: Accept sources that this tool has made.
        skip_bad: Leave out slices that cannot be read.
        rescale_type_is_hu: Values of DICOM are HU, whatever RescaleType says.
        grid: Grid that outputs are asked for on; the magnification then is each series' own.
        writing: Options of the outputs.
        versions: Versions that determine pixels.
    """

    options: UpscaleOptions
    model: str
    model_sha256: str
    device: str
    uncertainty: bool = False
    strict: bool = False
    max_memory: int | None = None
    force: bool = False
    skip_bad: bool = False
    rescale_type_is_hu: bool = False
    grid: Grid = Grid()
    writing: WriterOptions = DEFAULTS
    versions: Mapping[str, str] = field(default_factory=versions)

    @property
    def stated(self) -> dict[str, Any]:
        """Every setting by its name, options included, in JSON types."""
        record: dict[str, Any] = to_mapping(self)
        stated = {**record.pop("options"), **record.pop("writing"), **record.pop("grid"), **record}
        if not self.grid.is_free:
            del stated["scale"]
        return {name: value for name, value in stated.items() if name not in LATER or value != LATER[name]}

    @classmethod
    def of_stated(cls, stated: Mapping[str, Any]) -> Settings:
        """Settings from what :attr:`stated` made of them.

        Raises:
            ConfigError: If a value is none that the setting can have.
        """
        parts = {"options": UpscaleOptions, "writing": WriterOptions, "grid": Grid}
        values: dict[str, Any] = {name: _fields(kind, stated) for name, kind in parts.items()}
        values["writing"].pop("matrix", None)  # which is the grid's
        return from_mapping(cls, {**values, **_fields(cls, stated)}, where="settings")

    @property
    def key(self) -> str:
        """Hex digest that two runs share if, and only if, their settings are equal."""
        return hashlib.sha256(json.dumps(self.stated, sort_keys=True).encode()).hexdigest()

    @property
    def reading(self) -> dict[str, Any]:
        """Options of :func:`qdm_med.io.read.read_volume`."""
        return {name: getattr(self, name) for name in ("force", "skip_bad", "rescale_type_is_hu")}

    @property
    def planning(self) -> dict[str, Any]:
        """Settings that decide what a plan accepts and where it puts it, by name."""
        scale = self.options.scale if self.grid.is_free else None
        return {"scale": scale, **to_mapping(self.grid), **self.reading}


def settled(options: UpscaleOptions, card: ModelCard, grid: Grid) -> UpscaleOptions:
    """Fill in every default of mode and model; on a grid those that all magnifications share, as each series has its own.

    Raises:
        CheckpointError: If the model was not trained for the scale.
        ConfigError: If a number is out of range or an option does not fit the model.
    """
    if grid.is_free:
        return options.settled_for(card)
    first, *others = (replace(options, scale=scale).settled_for(card) for scale in card.scales)
    values = {name: getattr(first, name) for name in _names(UpscaleOptions) if name != "scale"}
    shared = {name: value for name, value in values.items() if all(getattr(one, name) == value for one in others)}
    return replace(options, **shared)


def _names(kind: type[Any]) -> list[str]:
    return [one.name for one in fields(kind)]


def _fields(kind: type[Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Statements about fields of a dataclass."""
    return {name: stated[name] for name in _names(kind) if name in stated}


def changes(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences between two stated settings, one line each.

    >>> changes({"steps": 3, "seed": 0}, {"steps": 2, "seed": 0})
    ['steps was 3, is 2']
    """
    before, after = {**LATER, **earlier}, {**LATER, **now}
    names = sorted(before.keys() | after.keys())
    return [
        f"{name} was {before.get(name)}, is {after.get(name)}" for name in names if before.get(name) != after.get(name)
    ]
