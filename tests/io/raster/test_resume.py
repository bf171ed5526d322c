"""A run that is killed goes on where it stopped, whatever volume file it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from qdm_med.io.read import read_volume
from qdm_med.io.write import open_writer
from tests.io.nifti_files import DERIVATION, repeated, save, values


def source_for(folder: Path, suffix: str) -> Path:
    """A volume file of the family that an output of this suffix is made from."""
    if suffix.startswith(".nii"):
        return save(folder / "ct.nii.gz", values())
    sitk.WriteImage(sitk.GetImageFromArray(values()), folder / "ct.nrrd")
    return folder / "ct.nrrd"


def write_slices(source: Path, out: Path, indices: tuple[int, ...], *, finished: set[int], dies: bool = False) -> None:
    volume = read_volume(source)
    with open_writer(volume, out, DERIVATION) as writer:
        assert writer.finished == finished
        for index in indices:
            writer.write(index, repeated(volume, index))
        if dies:
            raise KeyboardInterrupt
        assert writer.commit() == out


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_an_interrupted_run_is_resumed_to_the_same_bytes(tmp_path, suffix):
    source = source_for(tmp_path, suffix)
    before = source.read_bytes()
    count = len(read_volume(source))
    once, out = tmp_path / f"once{suffix}", tmp_path / f"out{suffix}"
    write_slices(source, once, tuple(range(count)), finished=set())
    with pytest.raises(KeyboardInterrupt):
        write_slices(source, out, (1,), finished=set(), dies=True)
    assert not out.exists()
    write_slices(source, out, tuple(reversed([index for index in range(count) if index != 1])), finished={1})
    assert out.read_bytes() == once.read_bytes()
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, out.name, once.name])
    assert np.any(read_volume(out, force=True).slices[0].hu)
