"""Data sets as Explicit VR Little Endian, with text and decimal strings byte for byte as they were.

pydicom decodes and encodes every text when the encoding of a data set changes, which damages text in a character
set that it does not know. Elements whose bytes mean the same in both encodings are therefore passed through.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.valuerep import STR_VR

_TEXT = {str(vr) for vr in STR_VR} | {"OB", "UN"}
_WORD_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


def as_explicit_little_endian(source: Any, *, without: Collection[int] = ()) -> Dataset:
    """Copy a parsed data set; nothing of the source changes. Call it within ``quiet()``.

    Group lengths are left out: they are retired and would be wrong (PS3.5 7.2).

    Args:
        source: Data set in any encoding.
        without: Tags to leave out.
    """
    implicit, little = source.original_encoding
    same_encoding = (implicit, little) == (False, True)
    leave, elements = frozenset(without), {}
    for tag in sorted(source.keys()):
        if tag.element and tag not in leave:
            raw = source.get_item(tag)
            keep = same_encoding and raw.is_raw
            elements[tag] = raw if keep else _recoded(raw, source[tag], little=little is not False)
    copy = Dataset(elements)  # at once: setting elements one by one takes most of the time of a header
    # Claiming the encoding lets pydicom write raw elements as the bytes that they are.
    copy.set_original_encoding(False, True, copy._character_set)
    return copy


def raw_text(keyword: str, vr: str, value: bytes) -> RawDataElement:
    """Make an element of text that is already encoded."""
    padded = value + b" " * (len(value) % 2)
    return RawDataElement(Tag(keyword), vr, len(padded), padded, 0, False, True)


def _recoded(raw: Any, element: Any, *, little: bool) -> DataElement | RawDataElement:
    """Encode an element anew; ``element`` is ``raw`` with its VR resolved, which an implicit encoding leaves out."""
    vr = str(element.VR)
    if vr == "SQ":
        return DataElement(element.tag, vr, Sequence([as_explicit_little_endian(item) for item in element.value]))
    if raw.is_raw and raw.value is not None and (vr in _TEXT or (little and len(vr) == 2)):
        return RawDataElement(element.tag, vr, len(raw.value), raw.value, 0, False, True)
    if not little and vr in _WORD_BYTES and element.value:
        swapped = np.frombuffer(element.value, f">u{_WORD_BYTES[vr]}").astype(f"<u{_WORD_BYTES[vr]}").tobytes()
        return DataElement(element.tag, vr, swapped)
    return element
