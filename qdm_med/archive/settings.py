"""Settings that determine the outputs of an archive: options, model, versions; outputs of two settings are never mixed."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import torch

from qdm_med._version import __version__
from qdm_med.inference.options import UpscaleOptions
from qdm_med.io.options import DEFAULTS, WriterOptions
from qdm_med.serialise import to_mapping

RECORDED = ("numpy", "pydicom", "nibabel", "scipy", "dask", "distributed")
"""Packages whose versions stand in receipts and do not determine pixels."""


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
        options: Options of the model's run, every default filled in.
        model: Its name.
        model_sha256: Hash of its weights.
        device: Kind of device, ``"cpu"``, ``"cuda"`` or ``"mps"``: their pixels may differ in the last bit.
        uncertainty: Write the standard deviation of the samples, too.
        strict: Refuse series unlike the model's training data.
        max_memory: Bytes that a series may take; ``None``: no limit.
        force: Accept sources that this tool has made.
        skip_bad: Leave out slices that cannot be read.
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
    writing: WriterOptions = DEFAULTS
    versions: Mapping[str, str] = field(default_factory=versions)

    @property
    def stated(self) -> dict[str, Any]:
        """Every setting by its name, options included, in JSON types."""
        record: dict[str, Any] = to_mapping(self)
        return {**record.pop("options"), **record.pop("writing"), **record}

    @property
    def key(self) -> str:
        """Hex digest that two runs share if, and only if, their settings are equal."""
        return hashlib.sha256(json.dumps(self.stated, sort_keys=True).encode()).hexdigest()

    @property
    def reading(self) -> dict[str, Any]:
        """Options of :func:`qdm_med.io.read.read_volume`."""
        return {"force": self.force, "skip_bad": self.skip_bad}


def changes(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences between two stated settings, one line each.

    >>> changes({"steps": 3, "seed": 0}, {"steps": 2, "seed": 0})
    ['steps was 3, is 2']
    """
    names = sorted(earlier.keys() | now.keys())
    return [
        f"{name} was {earlier.get(name)}, is {now.get(name)}" for name in names if earlier.get(name) != now.get(name)
    ]
