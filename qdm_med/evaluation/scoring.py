"""All columns of one slice: the protocols' metrics, errors by tissue, and fidelity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qdm_med.errors import DataError
from qdm_med.evaluation.cases import Case
from qdm_med.evaluation.columns import LIMITED, of_interpolation
from qdm_med.evaluation.measures.agreement import tissue_means
from qdm_med.evaluation.measures.calibration import calibration
from qdm_med.evaluation.measures.data_consistency import Consistency, data_consistency
from qdm_med.evaluation.measures.displacement import displacement
from qdm_med.evaluation.measures.edge_response import EdgeResponse, EdgeSet, edge_response, find_edges
from qdm_med.evaluation.measures.hallucination import Hallucinations, find_hallucinations
from qdm_med.evaluation.measures.noise_power import NoisePower, noise_power, uniform_regions
from qdm_med.evaluation.measures.perceptual import Lpips
from qdm_med.evaluation.measures.protocols import protocols, score_in
from qdm_med.evaluation.measures.segmentation import bone_dice, lung_dice
from qdm_med.evaluation.measures.tissue_errors import tissue_errors
from qdm_med.evaluation.measures.tissues import TISSUES, body_mask
from qdm_med.evaluation.methods.interpolation import Interpolation
from qdm_med.evaluation.methods.method import Restored
from qdm_med.intensity import IntensityMap
from qdm_med.resample import bicubic, block_mean
from qdm_med.uncertainty import reach_of_samples
from qdm_med.volume import BoolArray, FloatArray

NAN = float("nan")


@dataclass(frozen=True)
class Truth:
    """A case's true slice with everything that is measured on it once, for all methods.

    Attributes:
        case: The case.
        hu: ``(rows, columns)`` true HU.
    """

    case: Case
    hu: FloatArray

    @classmethod
    def of(cls, case: Case) -> Truth:
        """Prepare the truth of a case.

        Raises:
            DataError: If the case has none.
        """
        if case.reference_hu is None:
            raise DataError(
                f"slice {case.index} has no true slice, which every metric here needs; give a store of high-resolution slices"
            )
        return cls(case, case.reference_hu)

    @cached_property
    def body(self) -> BoolArray:
        """Mask of the patient."""
        return body_mask(self.hu)

    @cached_property
    def edges(self) -> EdgeSet:
        """Edges for the measures of sharpness."""
        return find_edges(self.hu)

    @cached_property
    def regions(self) -> list[tuple[slice, slice]]:
        """Uniform regions for the measures of noise."""
        return uniform_regions(self.hu)

    @cached_property
    def edge_response(self) -> EdgeResponse | None:
        """Edge response of the truth itself."""
        return edge_response(self.hu, self.edges)

    @cached_property
    def noise_power(self) -> NoisePower | None:
        """Noise power of the truth itself."""
        return noise_power(self.hu, self.regions)

    @cached_property
    def consistency(self) -> Consistency:
        """Residual of the truth itself: the noise of the low-resolution slice."""
        return self.consistency_of(self.hu)

    @cached_property
    def interpolated(self) -> FloatArray:
        """The low-resolution slice, interpolated: the detail that a method can show without inventing any."""
        return Interpolation("bicubic", bicubic, self.case.intensity).restore(self.case.low_hu, self.case.scale).hu

    @cached_property
    def alarms_of_interpolation(self) -> dict[str, float]:
        """Columns with a limit, measured on the interpolated input: what a method does no worse is no alarm."""
        found = measured(np.clip(self.interpolated, *self.case.intensity.hu_range), self)
        return {of_interpolation(one.name): found[one.name] for one in LIMITED}

    def consistency_of(self, hu: FloatArray) -> Consistency:
        """Residual of an image of the case against its low-resolution slice."""
        return data_consistency(hu, self.case.low_hu, self.case.params, self.case.intensity)

    def hallucinations_in(self, hu: FloatArray) -> Hallucinations:
        """Patches of an image of the case that show something else than the truth."""
        return find_hallucinations(hu, self.hu, self.interpolated, self.case.scale)


def score_slice(
    hu: FloatArray, truth: Truth, intensity: IntensityMap, *, perceptual: Lpips | None = None, fidelity: bool = True
) -> dict[str, float]:
    """Score all columns of one slice.

    Args:
        hu: ``(rows, columns)`` HU of the method, finite.
        truth: Truth of the same case.
        intensity: The model's mapping, for the network range.
        perceptual: LPIPS; its columns are left out without it.
        fidelity: Whether the fidelity columns are wanted.

    Returns:
        Column name -> value; NaN where a slice has nothing to measure (no lung in a head, say).

    Raises:
        DataError: If the image has another size than the truth.
    """
    if hu.shape != truth.hu.shape:
        raise DataError(
            f"an image of {hu.shape} cannot be compared with a true slice of {truth.hu.shape}; use the same size"
        )
    scores: dict[str, float] = {}
    for protocol in protocols(intensity, truth.case.intensity):
        scores |= score_in(protocol, hu, truth.hu, truth.body, perceptual)
    clipped = np.clip(hu, *truth.case.intensity.hu_range)
    scores |= tissue_errors(clipped, truth.hu, truth.body)
    return scores | fidelity_scores(clipped, truth) if fidelity else scores


def fidelity_scores(hu: FloatArray, truth: Truth) -> dict[str, float]:
    """Score how faithful a slice is, with what alarms hold against; arguments as for :func:`score_slice`."""
    return measured(hu, truth) | truth.alarms_of_interpolation


def measured(hu: FloatArray, truth: Truth) -> dict[str, float]:
    """Columns of fidelity, of one image of a case."""
    means = {tissue.name: tissue_means(hu, truth.hu, tissue) for tissue in TISSUES}
    found = truth.hallucinations_in(hu)
    return {
        **_consistency(truth.consistency_of(hu), truth.consistency),
        "area_mae_hu": float(np.abs(block_mean(hu, truth.case.scale) - truth.case.low_hu).mean()),
        **{f"bias_{name}_hu": pair[0] - pair[1] if pair else NAN for name, pair in means.items()},
        **{f"truth_{name}_hu": pair[1] if pair else NAN for name, pair in means.items()},
        "shift_px": float(np.hypot(*displacement(hu, truth.hu))),
        "mtf50_ratio": _ratio(edge_response(hu, truth.edges), truth.edge_response, "mtf50"),
        "noise_ratio": _ratio(noise_power(hu, truth.regions), truth.noise_power, "noise_hu"),
        "noise_frequency_ratio": _ratio(noise_power(hu, truth.regions), truth.noise_power, "mean_frequency"),
        "lung_dice": lung_dice(hu, truth.hu, truth.body),
        "bone_dice": bone_dice(hu, truth.hu, truth.body),
        "hallucinated_patches": float(len(found.boxes)),
        "hallucinated_share": found.share,
        "unsupported_patches": float(found.unsupported),
    }


def calibration_scores(restored: Restored, truth: Truth) -> dict[str, float]:
    """Score an uncertainty map within the body and where detail was generated; empty without a map."""
    if restored.std_hu is None:
        return {}
    reach = reach_of_samples(restored.samples)
    everywhere = calibration(restored.hu, restored.std_hu, truth.hu, truth.body, reach=reach)
    scores = {
        "coverage_95": everywhere.coverage if everywhere else NAN,
        "sample_std_hu": everywhere.std_hu if everywhere else NAN,
        "error_std_correlation": everywhere.correlation if everywhere else NAN,
    }
    if restored.calibrated_std_hu is not None:
        calibrated = calibration(restored.hu, restored.calibrated_std_hu, truth.hu, truth.body)
        scores["coverage_95_calibrated"] = calibrated.coverage if calibrated else NAN
        scores["calibrated_std_hu"] = calibrated.std_hu if calibrated else NAN
        for tissue in TISSUES:
            mask = truth.body & tissue.mask(truth.hu)
            own = calibration(restored.hu, restored.calibrated_std_hu, truth.hu, mask)
            scores[f"coverage_95_{tissue.name}"] = own.coverage if own else NAN
    if restored.leaves is not None:
        active = truth.body & np.kron(restored.leaves, np.ones((truth.case.scale,) * 2, dtype=bool))
        generated = calibration(restored.hu, restored.std_hu, truth.hu, active, reach=reach)
        scores["coverage_95_leaves"] = generated.coverage if generated else NAN
    return scores


def _consistency(own: Consistency, of_truth: Consistency) -> dict[str, float]:
    return {
        "consistency_mae_hu": own.mae_hu,
        "truth_consistency_mae_hu": of_truth.mae_hu,
        "consistency_bias_hu": own.bias_hu,
        "consistency_excess_hu": own.bias_hu - of_truth.bias_hu,
        "consistency_smooth_hu": own.smooth_hu,
    }


def _ratio(own: object | None, of_truth: object | None, name: str) -> float:
    if own is None or of_truth is None:
        return NAN
    base = float(getattr(of_truth, name))
    return float(getattr(own, name)) / base if base > 0 else NAN
