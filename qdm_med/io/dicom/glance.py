"""Single values of a DICOM file, read for the words of a message."""

from __future__ import annotations

from pathlib import Path

import pydicom

from qdm_med.io.dicom.file import quiet, read_dataset, shown_value, uid_name
from qdm_med.io.dicom.header import CT_IMAGE, ENHANCED_CT


def bare_kind(path: Path) -> str | None:
    """Kind of a data set without the preamble of PS3.10 7.1, in words; ``None`` if it is CT or cannot be read."""
    try:
        with quiet():
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=["SOPClassUID"])
            sop_class = str(dataset.get("SOPClassUID") or "")
    except Exception:  # arbitrary bytes
        return None
    known = sop_class.startswith("1.2.840.10008.") and sop_class not in (CT_IMAGE, *ENHANCED_CT)
    return f"{uid_name(sop_class)} without preamble" if known else None


def as_written(path: Path, keyword: str) -> str:
    """Quote a value as it stands in a file; ``"absent"`` or ``"empty"`` where there is none."""
    element = read_dataset(path, tags=[keyword]).get_item(keyword)
    if element is None:
        return "absent"
    value = element.value
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str("" if value is None else value)
    return shown_value(text.strip(" \0")) or "empty"
