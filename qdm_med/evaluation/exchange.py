"""The inputs of a benchmark as files that any program reads: DICOM, NIfTI, 16-bit PNG."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qdm_med._version import __version__
from qdm_med.errors import DataError
from qdm_med.evaluation.cases import Case
from qdm_med.files import whole_folder
from qdm_med.io.plane import Plane, write_dicom_plane, write_nifti_plane
from qdm_med.serialise import to_mapping

MANIFEST_FILE = "inputs.json"
WHITE_16 = 65535
"""Largest grey level of a 16-bit PNG."""

_README = """Inputs of {benchmark}: {count} slices of CT, each to be made {scale} times as large along both sides.

dicom/   whole HU          nifti/   HU as floating point (what qdm-med itself is given)
png/     16-bit grey: black is {low:g} HU, white is {high:g} HU ({kind} mapping, see inputs.json)

Take whichever your program reads. Write what it makes of NAME as NAME.png (8 or 16 bits, grey or colour, same grey
levels), NAME.nii.gz, NAME.nii, NAME.nrrd, NAME.mha or NAME.dcm (HU, same orientation) into one folder, and score it:

    qdm-med eval --benchmark {benchmark} --results YOURS=folder ...
"""


def case_name(case: Case) -> str:
    """Name of a case's files: the beginning of the true slice's checksum, the same in every store and selection."""
    return case.record.sha256[:16]


def export_inputs(
    cases: Iterable[Case], benchmark: str, out: Path, progress: Callable[[int], None] = lambda done: None
) -> int:
    """Write every case's low-resolution slice as DICOM, NIfTI and 16-bit PNG, and ``inputs.json``.

    Args:
        cases: Read once; at least one.
        benchmark: Its name.
        out: Folder to create; it appears when it is whole.
        progress: Told how many are written.

    Returns:
        How many cases.

    Raises:
        DataError: If the folder exists or cannot be written.
    """
    if out.exists():
        raise DataError(f"{out} exists; give another --export-inputs or remove it")
    entries = []
    try:
        with whole_folder(out) as partial:
            for kind in ("dicom", "nifti", "png"):
                (partial / kind).mkdir()
            for case in cases:
                entries.append(_export_case(case, partial))
                progress(len(entries))
            _describe(partial, benchmark, case, entries)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror}); give another --export-inputs") from None
    return len(entries)


def _export_case(case: Case, out: Path) -> dict[str, Any]:
    name, record = case_name(case), case.record
    plane = Plane(
        case.low_hu,
        name=f"{name} x{case.scale} {case.low_sha256}",
        patient=record.patient,
        spacing_mm=record.pixel_spacing_mm * case.scale,
        thickness_mm=record.slice_thickness_mm,
        description=f"qdm-med benchmark input, degraded x{case.scale}",
    )
    write_dicom_plane(plane, out / "dicom" / f"{name}.dcm")
    write_nifti_plane(plane, out / "nifti" / f"{name}.nii.gz")
    grey = (case.intensity.to_unit(case.low_hu).astype(np.float64) + 1.0) * (WHITE_16 / 2)
    Image.fromarray(np.rint(grey).astype(np.uint16)).save(out / "png" / f"{name}.png")
    rows, columns = case.low_hu.shape
    return {
        "name": name,
        "rows": rows,
        "columns": columns,
        "wanted_rows": rows * case.scale,
        "wanted_columns": columns * case.scale,
        "pixel_spacing_mm": plane.spacing_mm,
        "patient": record.patient,
        "sha256": record.sha256,
        "low_sha256": case.low_sha256,
        "degradation": to_mapping(case.params),
    }


def _describe(out: Path, benchmark: str, case: Case, entries: list[dict[str, Any]]) -> None:
    low, high = case.intensity.hu_range
    manifest = {
        "benchmark": benchmark,
        "scale": case.scale,
        "qdm_med": __version__,
        "intensity": to_mapping(case.intensity),
        "png": f"grey 0 to {WHITE_16} is -1 to 1 of the intensity mapping",
        "cases": entries,
    }
    (out / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1) + "\n")
    words = {"benchmark": benchmark, "count": len(entries), "scale": case.scale, "low": low, "high": high}
    (out / "README.txt").write_text(_README.format(**words, kind=case.intensity.kind))
