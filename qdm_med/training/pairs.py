"""Common ground of all trainings on pairs of a slice and its degraded version: batches, validation, record of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from qdm_med.checkpoints.model import Purpose
from qdm_med.data.degradation.clinical import ClinicalConfig
from qdm_med.data.degradation.degrade import BENCHMARK, CLINICAL, SCANNER, TRAINING, DegradationConfig
from qdm_med.data.pairs import PairBatch, PairSampler, SlicePair
from qdm_med.data.pipeline import TruthConfig
from qdm_med.data.store.slices import SliceStore
from qdm_med.errors import ConfigError
from qdm_med.evaluation.measures.metrics import psnr
from qdm_med.evaluation.selection import store_sha256
from qdm_med.intensity import IntensityMap
from qdm_med.keys import rng
from qdm_med.resample import bicubic
from qdm_med.training.task import Run, Sample, Share, Validation, require_item_for_every_process

SHOWN = 4
"""Validation slices of each scale that the picture shows."""


@dataclass(frozen=True)
class PairTrainingConfig:
    """Pairs that a network is trained and validated on.

    Attributes:
        crops: Sides of the training crops in pixels; one is drawn a batch. Larger crops come in smaller batches, so
            that every batch has as many pixels as the loop's ``batch`` of the first.
        crop_weights: Relative frequency of each crop.
        benchmark_share: Share of the batches degraded as the benchmarks are.
        scanner_share: Share of the batches degraded by the family closer to CT (:mod:`qdm_med.data.degradation.degrade.scanner`). All others
            are degraded with the paper's training range.
        clinical_share: Share of the batches sampled as clinical slices are (:mod:`qdm_med.data.degradation.clinical`).
        clinical: Ranges by which those are sampled in training; a validation keeps the usual ones, so that figures of two runs can
            be compared.
        truth: Sources of the references.
        validation_slices: Slices of the validation split that are super-resolved, evenly spaced.
    """

    crops: tuple[int, ...] = (512,)
    crop_weights: tuple[float, ...] = (1.0,)
    benchmark_share: float = 0.5
    scanner_share: float = 0.0
    clinical_share: float = 0.0
    clinical: ClinicalConfig = CLINICAL
    truth: TruthConfig = TruthConfig()
    validation_slices: int = 6

    def __post_init__(self) -> None:
        """Check that every crop has its weight, and that the degradations' shares are shares of one whole."""
        shares = (self.benchmark_share, self.scanner_share, self.clinical_share)
        if min(shares) < 0 or sum(shares) > 1:
            raise ConfigError(f"benchmark_share, scanner_share and clinical_share must be parts of 1, got {shares}")
        if not self.crops or len(self.crops) != len(self.crop_weights):
            raise ConfigError(
                f"crop_weights {self.crop_weights} must give one number for each of the crops {self.crops}"
            )

    def degradation_at(self, place: float) -> DegradationConfig:
        """Degradation of a batch that drew ``place``, even in [0, 1)."""
        for share, degradation in self._families:
            if place < share:
                return degradation
            place -= share
        return TRAINING

    @property
    def validation_degradation(self) -> DegradationConfig:
        """Degradation of validation slices: that of clinical ones where most of the training is, else of benchmarks."""
        return CLINICAL if self.purpose == "clinical" else BENCHMARK

    @property
    def purpose(self) -> Purpose:
        """Kind of slices the network is for: clinical ones where most of the training is."""
        return "clinical" if self.clinical_share > 0.5 else "benchmark"

    @property
    def domain(self) -> dict[str, Any]:
        """Entry ``domain`` of a card: ranges of noise and point spread in training, if a slice shows them."""
        if self.purpose != "clinical":
            return {}
        return {"domain": {"noise_hu": [0.0, self.clinical.noise_hu[1]], "fwhm_pixels": [0.0, self.clinical.fwhm[1]]}}

    @property
    def degradations(self) -> tuple[DegradationConfig, ...]:
        """Every degradation that a batch may have."""
        return *(degradation for _, degradation in self._families), TRAINING

    @property
    def _families(self) -> tuple[tuple[float, DegradationConfig], ...]:
        return (self.benchmark_share, BENCHMARK), (self.scanner_share, SCANNER), (self.clinical_share, self.clinical)


class PairDraw(NamedTuple):
    """Draws that all items of a step share, beside the scale.

    Attributes:
        crop: Side of the crops in pixels.
        degradation: Degradation of the crops.
        rng: For whatever else the task draws once a step.
    """

    crop: int
    degradation: DegradationConfig
    rng: np.random.Generator


class PairBatches:
    """Pairs of every step of a training: a pure function of the step.

    Args:
        run: Its slices, of which the train split is drawn from; its batch, items of the first crop's size; its seed.
        config: Pairs of the training.
        scales: Scales to draw from, one a batch, equally likely.
        intensity: HU to [-1, 1].

    Raises:
        ConfigError: If a crop does not fit slices or scales, or a batch would leave a process without an item.
    """

    def __init__(
        self, run: Run[SliceStore], config: PairTrainingConfig, *, scales: tuple[int, ...], intensity: IntensityMap
    ) -> None:
        self._config, self._batch, self._seed = config, run.batch, run.seed
        require_item_for_every_process(min(self._size(crop) for crop in config.crops))
        self._samplers = {
            (crop, degradation): PairSampler(
                run.store,
                split="train",
                crop=crop,
                scales=scales,
                degradation=degradation,
                intensity=intensity,
                seed=run.seed,
                truth=config.truth,
            )
            for crop in config.crops
            for degradation in config.degradations
        }

    def draw(self, step: int) -> PairDraw:
        """Draw the values that the items of ``step`` share."""
        shared = rng(self._seed, "step", step)
        weights = np.asarray(self._config.crop_weights) / sum(self._config.crop_weights)
        crop = int(shared.choice(self._config.crops, p=weights))
        return PairDraw(crop, self._config.degradation_at(shared.random()), shared)

    def size(self, step: int) -> int:
        """Number of items in the batch of ``step``, over all shares."""
        return self._size(self.draw(step).crop)

    def _size(self, crop: int) -> int:
        return max(1, self._batch * self._config.crops[0] ** 2 // crop**2)

    def batch(self, step: int, share: Share) -> PairBatch:
        """Make a share of the pairs of ``step``."""
        crop, degradation, _ = self.draw(step)
        sampler = self._samplers[crop, degradation]
        return sampler.batch(step, self._size(crop), rank=share.index, world_size=share.count)


def evenly_spaced(store: SliceStore, count: int) -> int:
    """Stride through the validation split that gives about ``count`` slices."""
    return max(1, len(store.indices("val")) // count)


def compare_with_bicubic(pairs: Iterable[SlicePair], super_resolve: Callable[[SlicePair], Tensor]) -> Validation:
    """Measure PSNR (data range 2) of a network's answers and of bicubic, means over whole slices of one scale.

    Args:
        pairs: Slices, at least one.
        super_resolve: The network's answer ``(1, 1, rows, columns)`` in [-1, 1] to a pair's ``low_res``, on the CPU.
    """
    ours, interpolated = [], []
    samples: list[Sample] = []
    for pair in pairs:
        image, enlarged = super_resolve(pair), bicubic(pair.low_res, pair.scale)
        ours.append(float(psnr(image, pair.high_res)))
        interpolated.append(float(psnr(enlarged, pair.high_res)))
        if len(samples) < SHOWN:
            name = f"x{pair.scale}, slice {pair.index}"
            samples.append(Sample(name, enlarged[0, 0], image[0, 0], pair.high_res[0, 0]))
    figures = {f"psnr_x{pair.scale}": float(np.mean(ours)), f"bicubic_x{pair.scale}": float(np.mean(interpolated))}
    return Validation(figures, tuple(samples))


def data_record(store: SliceStore) -> dict[str, Any]:
    """Entry of a card about the slices that a network was trained on, free of patient data."""
    patients = store.patients("train")
    return {
        "slices": len(store.indices("train")),
        "patients": len(patients),
        "patient_keys": list(patients),
        "sources": sorted({record.source for record in store.records}),
        "store": store_sha256(store),
    }
