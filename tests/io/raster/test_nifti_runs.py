"""Runs that write NIfTI: interrupted, resumed, overwritten, refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import Derivation
from qdm_med.io.raster.nifti import NiftiWriter, read_nifti
from qdm_med.volume import Volume
from tests.io.nifti_files import DERIVATION, repeated, save, upscale, values


def write_one_and_stop(volume: Volume, out: Path, index: int, stop: type[BaseException]) -> None:
    with NiftiWriter(volume, out, DERIVATION) as writer:
        writer.write(index, repeated(volume, index))
        raise stop


def interrupt_after_one(source: Path, out: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_one_and_stop(read_nifti(source), out, 0, KeyboardInterrupt)


def test_another_job_does_not_take_over_finished_slices(tmp_path):
    source = save(tmp_path / "ct.nii", values())
    interrupt_after_one(source, tmp_path / "out.nii")
    other = Derivation(4, "other-model", "ffff")
    with NiftiWriter(read_nifti(source), tmp_path / "out.nii", other) as writer:
        assert writer.finished == frozenset()


def test_another_source_on_the_same_grid_does_not_take_over_finished_slices(tmp_path):
    interrupt_after_one(save(tmp_path / "ct.nii", values()), tmp_path / "out.nii")
    other = read_nifti(save(tmp_path / "other.nii", values() + 1))
    with NiftiWriter(other, tmp_path / "out.nii", DERIVATION) as writer:
        assert writer.finished == frozenset()


def test_a_slice_file_under_a_temporary_name_is_not_finished(tmp_path):
    source = save(tmp_path / "ct.nii", values())
    interrupt_after_one(source, tmp_path / "out.nii")
    (raw,) = (tmp_path / ".out.nii.partial" / "slices").iterdir()
    raw.rename(raw.with_name(f".{raw.name}.partial"))
    with NiftiWriter(read_nifti(source), tmp_path / "out.nii", DERIVATION) as writer:
        assert writer.finished == frozenset()


def test_an_error_of_ours_leaves_nothing(tmp_path):
    volume = read_nifti(save(tmp_path / "ct.nii", values()))
    with pytest.raises(SeriesError):
        write_one_and_stop(volume, tmp_path / "out.nii", 0, SeriesError)
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii"]


def test_an_image_of_the_wrong_size_is_refused(tmp_path):
    volume = read_nifti(save(tmp_path / "ct.nii", values()))
    writer = NiftiWriter(volume, tmp_path / "out.nii", DERIVATION)
    with pytest.raises(SeriesError, match="does not fit"), writer:
        writer.write(0, np.zeros((4, 5), np.float32))


def test_an_output_without_all_slices_is_refused(tmp_path):
    volume = read_nifti(save(tmp_path / "ct.nii", values()))
    writer = NiftiWriter(volume, tmp_path / "out.nii", DERIVATION)
    writer.write(1, repeated(volume, 1))
    with pytest.raises(SeriesError, match="2 slices were not written"), writer:
        writer.commit()
    assert not (tmp_path / "out.nii").exists()


def test_outputs_that_cannot_be_are_refused_before_anything_is_written(tmp_path):
    source = save(tmp_path / "ct.nii", values())
    (tmp_path / "there.nii").write_bytes(b"precious")
    volume = read_nifti(source)
    for name, complaint in [("there.nii", "exists"), ("out.mha", "must end in")]:
        with pytest.raises(SeriesError, match=complaint):
            NiftiWriter(volume, tmp_path / name, DERIVATION)
    with pytest.raises(SeriesError, match="the source itself"):
        NiftiWriter(volume, source, DERIVATION, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct.nii", "there.nii"]
    assert (tmp_path / "there.nii").read_bytes() == b"precious"


def test_a_foreign_folder_in_the_way_is_not_emptied(tmp_path):
    volume = read_nifti(save(tmp_path / "ct.nii", values()))
    foreign = tmp_path / ".out.nii.partial"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    with (
        pytest.raises(SeriesError, match="move it away"),
        NiftiWriter(volume, tmp_path / "out.nii", DERIVATION),
    ):
        pass
    assert (foreign / "thesis.tex").read_text() == "precious"


def test_overwriting_replaces_the_file_only_at_the_end(tmp_path):
    source = save(tmp_path / "ct.nii", values())
    out = tmp_path / "out.nii"
    out.write_bytes(b"before")
    interrupt = read_nifti(source)
    with pytest.raises(KeyboardInterrupt), NiftiWriter(interrupt, out, DERIVATION, overwrite=True):
        raise KeyboardInterrupt
    assert out.read_bytes() == b"before"
    assert upscale(source, out, overwrite=True).read_bytes() == upscale(source, tmp_path / "new.nii").read_bytes()


def test_nothing_of_the_sources_name_is_kept(tmp_path):
    source = save(tmp_path / "DOE_JOHN.nii", values())
    out = tmp_path / "out.nii.gz"
    interrupt_after_one(source, out)
    state = (tmp_path / ".out.nii.gz.partial" / "job.json").read_text()
    assert "DOE" not in state + gzip.decompress(upscale(source, out).read_bytes()).decode("latin1")
