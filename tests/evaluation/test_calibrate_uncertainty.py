"""The tool that calibrates uncertainty, with a method whose samples are wrong by a known amount."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from qdm_med.data.store.slices import SliceRecord, SliceStore, anonymous_key, slice_checksum
from qdm_med.data.store.writer import SliceStoreWriter
from qdm_med.evaluation.measures.tissues import TISSUES
from qdm_med.evaluation.methods.back_projection import BackProjection
from tests.evaluation.phantoms import chest
from tools.calibrate_uncertainty import measure, measured_patients


@dataclass(frozen=True)
class Sure:
    """Bicubic interpolation that claims a tenth of its contrast as its standard deviation: far too sure."""

    def restore(self, low_hu, scale):
        restored = BackProjection(0).restore(low_hu, scale)
        rows, columns = np.gradient(restored.hu)
        return replace(restored, std_hu=0.3 * np.hypot(rows, columns).astype(np.float32), samples=8)


@pytest.fixture
def four_patients(tmp_path):
    with SliceStoreWriter(tmp_path / "store", slice_shape=(192, 192)) as writer:
        for number in range(4):
            hu = np.clip(np.rint(chest(192, seed=number)), -1024, 3071).astype(np.int16)
            key = anonymous_key(f"patient {number}")
            writer.add(hu, SliceRecord("val", key, key, 0.0, 0.7, 1.0, "", "", "phantom", slice_checksum(hu)))
    return SliceStore.open(tmp_path / "store")


def test_every_tissue_is_covered_on_other_patients_and_on_both_kinds_of_input(checkpoint, four_patients):
    patients = measured_patients(checkpoint, four_patients, Sure(), 4, per_patient=1)
    assert len(patients) == 4
    found, figures = measure(patients, scale=4, steps=2, samples=8)
    covered = {name.removeprefix("coverage of "): value for name, value in figures.items() if "coverage" in name}
    present = ("body", *(one.name for one in TISSUES if one.name != "contrast_medium"))
    assert {f"{name}, {kind}" for name in present for kind in ("benchmark", "clinical")} <= covered.keys()
    assert min(covered.values()) >= 0.93
    assert 0.94 <= found.coverage <= 1
    assert [one.hu for one in found.tissues] == sorted(one.hu for one in found.tissues)
