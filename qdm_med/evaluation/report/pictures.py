"""Slices for a report: every method's image, its quadtree, its flagged patches, its edges and its noise."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from qdm_med.data.store.slices import SliceStore
from qdm_med.evaluation.benchmarks import BenchmarkOptions, benchmark_cases
from qdm_med.evaluation.evaluate import run_method
from qdm_med.evaluation.measures.edge_response import EdgeResponse, edge_response
from qdm_med.evaluation.measures.hallucination import Box
from qdm_med.evaluation.measures.noise_power import NoisePower, noise_power
from qdm_med.evaluation.methods.method import Method, Restored
from qdm_med.evaluation.scoring import Truth
from qdm_med.intensity import HU_MAX, HU_MIN, IntensityMap
from qdm_med.volume import BoolArray, FloatArray

MOST_CASES = 3
"""A slice takes about two megabytes of a report."""

TRUTH = "true slice"
INPUT = "low-resolution input"
INTERPOLATED = "source, interpolated"


@dataclass(frozen=True)
class Picture:
    """One image of a case.

    Attributes:
        name: Method, :data:`TRUTH`, :data:`INPUT` or :data:`INTERPOLATED`.
        png: Data URI of the image in HU, from :func:`hu_png`.
        leaves: Data URI of the active leaves on the low-resolution grid, if the method has any.
        std: Data URI of its standard deviation in HU, from :func:`hu_png`, if it is a mean of samples.
        boxes: Flagged patches.
        edges: Edge response, where it could be measured.
        noise: Noise power, where it could be measured.
    """

    name: str
    png: str
    leaves: str | None = None
    std: str | None = None
    boxes: tuple[Box, ...] = ()
    edges: EdgeResponse | None = None
    noise: NoisePower | None = None


@dataclass(frozen=True)
class PictureCase:
    """All images of one slice.

    Attributes:
        title: Name of the slice, without anything that identifies a patient.
        scale: Magnification.
        shape: Rows and columns of the super-resolved slice.
        pictures: The truth if it is known, the input, then the methods in their order.
    """

    title: str
    scale: int
    shape: tuple[int, int]
    pictures: tuple[Picture, ...]


def choose_slices(store: SliceStore, indices: Sequence[int], most: int = MOST_CASES) -> list[int]:
    """Choose middle slices of patients spread over the benchmark, one a patient."""
    by_patient: dict[str, list[int]] = {}
    for index in indices:
        by_patient.setdefault(store.records[index].patient, []).append(index)
    middles = [group[len(group) // 2] for group in by_patient.values()]
    places = np.linspace(0, len(middles) - 1, min(most, len(middles))).round().astype(int)
    return [middles[place] for place in places]


def picture_cases(
    store: SliceStore,
    indices: Sequence[int],
    options: BenchmarkOptions,
    methods: Iterable[Method],
    intensity: IntensityMap,
    most: int = MOST_CASES,
) -> list[PictureCase]:
    """Make the images again: every method gives the same pixels for the same slice.

    Args:
        store: Slices.
        indices: Those of the benchmark.
        options: What was run.
        methods: Whose images are shown.
        intensity: The model's mapping.
        most: Slices that are shown, spread over patients; 0: every one.
    """
    cases = []
    shown = choose_slices(store, indices, most) if most else indices
    for case in benchmark_cases(store, shown, options, intensity):
        truth = Truth.of(case)
        pictures = [
            Picture(TRUTH, hu_png(truth.hu), edges=truth.edge_response, noise=truth.noise_power),
            Picture(INPUT, hu_png(case.low_hu)),
        ]
        for method in methods:
            restored, _ = run_method(method, case)
            pictures.append(_picture(method.name, restored, truth))
        title = f"slice {case.index}, patient {case.record.patient[:8]}, {case.record.pixel_spacing_mm:.3g} mm"
        cases.append(PictureCase(title, case.scale, truth.hu.shape, tuple(pictures)))
    return cases


def _picture(name: str, restored: Restored, truth: Truth) -> Picture:
    hu, leaves = restored.hu, restored.leaves
    std = restored.std_hu if restored.calibrated_std_hu is None else restored.calibrated_std_hu
    return Picture(
        name,
        hu_png(hu),
        leaves=None if leaves is None else mask_png(leaves),
        std=None if std is None else hu_png(std),
        boxes=truth.hallucinations_in(hu).boxes,
        edges=edge_response(hu, truth.edges),
        noise=noise_power(hu, truth.regions),
    )


def hu_png(hu: FloatArray) -> str:
    """Encode an image in whole HU as a data URI: HU + 1024 (0 to 4095), the high byte in red and the low byte in green."""
    stored = np.rint(np.clip(hu, HU_MIN, HU_MAX) - HU_MIN).astype(np.uint16)
    channels = np.stack([stored >> 8, stored & 255, np.zeros_like(stored)], axis=-1).astype(np.uint8)
    return _data_uri(Image.fromarray(channels))


def mask_png(mask: BoolArray) -> str:
    """Encode a mask as a data URI, 255 where it is True."""
    return _data_uri(Image.fromarray(mask.astype(np.uint8) * 255))


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=False)
    return as_data_uri(buffer.getvalue())


def as_data_uri(png: bytes) -> str:
    """Encode the bytes of a PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
