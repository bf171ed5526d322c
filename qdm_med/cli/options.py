"""Options that several commands share: name, words and panel of the help once, for ``upscale``, ``listen`` and ``archive``.

A command states which of them it takes and their defaults; :func:`upscale_options` and its neighbours read what was given, so
that an option is added here, in the signatures, and in the dataclass that it is a field of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from qdm_med.inference import names
from qdm_med.io import options as writing
from qdm_med.models.qdm.names import QuadtreeKind

if TYPE_CHECKING:
    from qdm_med.inference.options import UpscaleOptions

QUALITY, SOURCE, DICOM, PERFORMANCE = "Quality", "Source and its units", "DICOM output", "Performance"
"""Panels of the help; what has none is for every day."""


def _option(*declared: str, panel: str | None = None, told: str, smallest: int | None = None) -> Any:
    return typer.Option(*declared, rich_help_panel=panel, help=told, min=smallest)


Scale = Annotated[int, _option(told="Magnification of rows and columns: 4 or 8.")]
Matrix = Annotated[
    int | None,
    _option(told="Pixels along the longer side: super-resolved by 4 or 8, then averaged by area to it.", smallest=1),
]
Spacing = Annotated[float | None, _option(told="Pixel spacing in mm, instead of --matrix; met as whole pixels allow.")]
Checkpoint = Annotated[
    Path | None, _option(told="Trained model: a file, or an embedded one: clinical (default) or benchmark.")
]
Device = Annotated[str, _option(panel=PERFORMANCE, told="auto, cpu, cuda, cuda:N or mps.")]
Seed = Annotated[int, _option(told="Noise seed; the same seed gives the same images.")]
AsJson = Annotated[bool, _option("--json", told="Print the summary as JSON.")]

Mode = Annotated[
    names.ModeName | None,
    _option(
        panel=QUALITY,
        told="faithful (least error and invention), balanced (one sample), or detailed (most texture). Default: the model's.",
    ),
]
Steps = Annotated[int | None, _option(panel=QUALITY, told="Sampling steps. Default: the mode's.")]
Samples = Annotated[int | None, _option(panel=QUALITY, told="Samples whose mean is taken. Default: the mode's.")]
Temperature = Annotated[float | None, _option(panel=QUALITY, told="Factor on the noise. Default: the mode's.")]
Consistency = Annotated[
    names.ConsistencyName | None,
    _option(
        panel=QUALITY,
        told="Agreement with the source's HU: off, local (neighbourhoods), spread (through its point spread), soft or hard "
        "(every pixel). Default: the model's.",
    ),
]
Fwhm = Annotated[
    float | None,
    _option(
        panel=QUALITY,
        told="Full width at half maximum of the source's point spread in its pixels. Default: estimated.",
    ),
]
Uncertainty = Annotated[
    bool,
    _option(
        "--uncertainty",
        panel=QUALITY,
        told="Write the samples' standard deviation in HU, too: OUT-uncertainty beside OUT.",
    ),
]
Quadtree = Annotated[
    QuadtreeKind | None,
    _option(panel=QUALITY, told="paper (one level) or adaptive (above the noise, patient only). Default: the model's."),
]
Threshold = Annotated[
    float | None, _option(panel=QUALITY, told="Quadtree threshold; 0 refines everything. Default: the model's.")
]
NoiseFactor = Annotated[
    float | None, _option(panel=QUALITY, told="Adaptive quadtree: times the range of noise alone. Default: 1.3.")
]

Tile = Annotated[
    int | None,
    _option(
        panel=PERFORMANCE,
        told="Largest side of a tile in source pixels: at least 64 and whole windows (16 pixels at x4, 8 at x8) with a halo, at least 32 else. Default: the model's.",
    ),
]
Fusion = Annotated[
    names.FusionName | None,
    _option(
        panel=PERFORMANCE,
        told="Fusion of tiles: gaussian (the paper's) or halo (few, large tiles). Default: the model's.",
    ),
]
Precision = Annotated[
    names.Precision, _option(panel=PERFORMANCE, told="float32, or bfloat16, which is faster on GPUs only.")
]
MaxMemory = Annotated[
    float | None,
    _option(panel=PERFORMANCE, told="GiB of memory that a series may take; tiles are made small enough."),
]

Force = Annotated[bool, _option("--force", panel=SOURCE, told="Accept a source that qdm-med has made.")]
SkipBad = Annotated[
    bool,
    _option(
        "--skip-bad", panel=SOURCE, told="Leave out DICOM slices that cannot be read, instead of refusing the series."
    ),
]
RescaleTypeIsHu = Annotated[
    bool,
    _option(
        "--rescale-type-is-hu",
        panel=SOURCE,
        told="DICOM: values are HU, whatever RescaleType says; recorded in the output.",
    ),
]
Strict = Annotated[
    bool, _option("--strict", panel=SOURCE, told="Refuse a series unlike what the model was trained on.")
]

Private = Annotated[writing.Private, _option(panel=DICOM, told="Private DICOM elements: keep or drop.")]
Equipment = Annotated[
    writing.Equipment,
    _option(
        panel=DICOM,
        told="General Equipment of the output: keep (the scanner's) or standard (PS3.3 C.12.1.1.5).",
    ),
]
TransferSyntax = Annotated[
    writing.SyntaxName,
    _option(panel=DICOM, told="Encoding of DICOM output: explicit, rle, jpeg-ls, jpeg-2000, htj2k; none loses."),
]

Kind = TypeVar("Kind")


def upscale_options(given: Mapping[str, Any]) -> UpscaleOptions:
    """Build the options of a checkpoint's run from a command's parameters (``typer.Context.params``).

    Raises:
        ConfigError: If an option is out of range.
    """
    from qdm_med.inference.options import UpscaleOptions

    return _of(UpscaleOptions, given)


def writer_options(given: Mapping[str, Any]) -> writing.WriterOptions:
    """Build the options of outputs likewise; a matrix is known when the source is."""
    return _of(writing.WriterOptions, {name: value for name, value in given.items() if name != "matrix"})


READING = ("force", "skip_bad", "axis", "hu_offset", "rescale_type_is_hu")


def reading_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Build the options of reading likewise: keyword arguments of :func:`qdm_med.io.read.read_volume`."""
    return {name: given[name] for name in READING if name in given}


def memory_limit(gibibytes: float | None) -> int | None:
    """Bytes of ``--max-memory``."""
    return None if gibibytes is None else int(gibibytes * 2**30)


def _of(kind: type[Kind], given: Mapping[str, Any]) -> Kind:
    """Build a dataclass from a command's parameters; fields that are no option of it keep their defaults."""
    return kind(**{one.name: given[one.name] for one in fields(kind) if one.name in given})  # type: ignore[arg-type]
