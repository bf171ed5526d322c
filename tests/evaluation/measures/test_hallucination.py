import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qdm_med.errors import ConfigError
from qdm_med.evaluation.measures.hallucination import (
    LIMIT_HU,
    PATCH_PX,
    find_hallucinations,
    ring_correlation,
    rings_shown,
    scan,
)
from tests.evaluation.phantoms import chest, with_nodule, without_vessel

LUNG = 128, 179


def test_the_correlation_of_rings_is_that_of_their_fourier_coefficients():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 16, 16))
    spectra = np.fft.fft2(first), np.fft.fft2(second)
    found = ring_correlation(*spectra)
    assert found.shape == (3, 9)
    frequency = np.fft.fftfreq(16) * 16
    for patch in range(3):
        for ring in range(1, 9):
            inside = [
                (row, column)
                for row in range(16)
                for column in range(16)
                if round(float(np.hypot(frequency[row], frequency[column]))) == ring
            ]
            one, two = ([spectrum[patch][place] for place in inside] for spectrum in spectra)
            together = sum((a * np.conj(b)).real for a, b in zip(one, two, strict=True))
            expected = together / np.sqrt(sum(abs(a) ** 2 for a in one) * sum(abs(b) ** 2 for b in two))
            assert found[patch, ring] == pytest.approx(expected)


def test_equal_images_correlate_fully_contrast_does_not_matter_and_opposites_do_not_correlate():
    spectra = np.fft.fft2(np.random.default_rng(0).normal(size=(2, 32, 32)))
    np.testing.assert_allclose(ring_correlation(spectra, spectra), 1.0)
    np.testing.assert_allclose(ring_correlation(3 * spectra, spectra), 1.0)
    np.testing.assert_allclose(ring_correlation(-spectra, spectra), -1.0)
    silent = np.zeros((1, 32, 32), dtype=complex)
    assert (ring_correlation(silent, silent) == 1.0).all()
    assert (ring_correlation(silent, spectra[:1]) == 0.0).all()


def around(boxes, row, column):
    return [box for box in boxes if 0 <= row - box.row < box.side and 0 <= column - box.column < box.side]


@pytest.fixture(scope="module", params=[4, 8])
def phantom(request, make_truth):
    return make_truth(chest(), request.param)


def test_a_painted_nodule_is_boxed_where_it_was_painted_and_nowhere_else(phantom):
    found = phantom.hallucinations_in(with_nodule(phantom.hu, *LUNG))
    assert around(found.boxes, *LUNG)
    reach = PATCH_PX + 8
    assert all(abs(box.row + 16 - LUNG[0]) < reach and abs(box.column + 16 - LUNG[1]) < reach for box in found.boxes)
    assert found.unsupported == len(found.boxes)


def test_an_erased_vessel_is_boxed_along_its_course(phantom):
    found = phantom.hallucinations_in(without_vessel(phantom.hu))
    assert found.unsupported
    assert all(box.column < 128 for box in found.boxes)


def test_the_unchanged_slice_and_honest_changes_raise_no_box(phantom):
    truth = phantom.hu
    assert phantom.hallucinations_in(truth).patches > 100
    for honest in (truth, truth + 10, gaussian_filter(truth, 1.0), chest(seed=1)):
        assert phantom.hallucinations_in(honest).boxes == ()


def test_interpolation_of_the_input_is_never_unsupported(phantom):
    assert phantom.hallucinations_in(phantom.interpolated).unsupported == 0


def test_what_interpolation_gets_wrong_as_well_is_boxed_but_not_unsupported():
    truth = chest()
    wrong = with_nodule(truth, *LUNG)
    shared, alone = (find_hallucinations(wrong, truth, plain, 4) for plain in (wrong, truth))
    assert len(shared.boxes) == len(alone.boxes) > 0
    assert (shared.unsupported, alone.unsupported) == (0, len(alone.boxes))


def test_the_limit_flags_the_patches_above_it_and_scales_without_one_are_refused():
    truth = chest()
    wrong = with_nodule(truth, *LUNG)
    for scale, limit in LIMIT_HU.items():
        above = scan(wrong, truth, scale).uncorrelated_hu() > limit
        assert len(find_hallucinations(wrong, truth, truth, scale).boxes) == above.sum() > 0
    with pytest.raises(ConfigError, match="limits for x4, x8, not for x3"):
        find_hallucinations(truth, truth, truth, 3)


def test_the_scan_tells_correlated_differences_from_uncorrelated_ones():
    truth = chest()
    same_shape = scan(2 * truth, truth, 4)  # contrast is wrong, structure is not
    assert same_shape.difference_hu.max() > 100
    assert not same_shape.uncorrelated_hu().any()
    assert scan(with_nodule(truth, *LUNG), truth, 4).uncorrelated_hu().max() > 100


def test_air_is_not_scanned_and_small_images_hold_no_patch():
    air = np.full((64, 64), -1000.0, dtype=np.float32)
    found = find_hallucinations(air, air, air, 4)
    assert (found.patches, found.boxes) == (0, ())
    assert np.isnan(found.share)
    small = air[:20, :20]
    assert find_hallucinations(small, small, small, 4).patches == 0


def test_coarser_inputs_have_shown_fewer_rings():
    assert [rings_shown(scale) for scale in (1, 2, 4, 8)] == [8, 4, 2, 1]
