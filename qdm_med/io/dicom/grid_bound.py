"""Elements of a CT image that describe its old pixels or encoding, and that an image on a new grid cannot keep."""

from __future__ import annotations

from typing import Any

from pydicom.datadict import keyword_for_tag, tag_for_keyword

OPAQUE_LIMIT = 4096
"""Bytes above which a private element of unknown content is taken to be pixel data of some kind."""
_OPAQUE = ("OB", "OW", "UN", "OF", "OD", "OL", "OV")

_SHUTTER = tuple(range(0x00181600, 0x00181625))
"""Display Shutter Module (PS3.3 C.7.6.11), in pixels of the old grid."""
_GRID_BOUND = {
    *_SHUTTER,
    *(
        tag_for_keyword(keyword)
        for keyword in (
            "IconImageSequence",
            "PixelAspectRatio",  # at odds with PixelSpacing (PS3.3 10.7.1.3)
            "DigitalSignaturesSequence",  # would no longer verify
            "MACParametersSequence",
        )
    ),
}
_SILENT = {
    tag_for_keyword(keyword)
    for keyword in (
        "PixelData",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
        "DataSetTrailingPadding",
        "SmallestImagePixelValue",
        "LargestImagePixelValue",
        "SmallestPixelValueInSeries",
        "LargestPixelValueInSeries",
        "InstanceCreatorUID",
        "StorageMediaFileSetID",
        "StorageMediaFileSetUID",
    )
}
"""Nobody misses these: statistics of the old pixels, bookkeeping of the old file."""


def grid_bound_tags(dataset: Any, *, private: str = "keep") -> list[int]:
    """Tags of the top-level elements that a derived image does not take over.

    Args:
        dataset: A parsed file.
        private: ``"keep"``: of private elements only large opaque ones; ``"drop"``: all private elements.
    """
    return [int(tag) for tag in dataset.keys() if _is_bound(dataset, tag, private)]  # noqa: SIM118 - a Dataset iterates over parsed elements


def grid_bound_names(dataset: Any) -> set[str]:
    """Names of those elements that a user may miss."""
    return {_name(tag) for tag in grid_bound_tags(dataset) if tag not in _SILENT and tag & 0xFFFF}


def _is_bound(dataset: Any, tag: Any, private: str) -> bool:
    if tag in _GRID_BOUND or tag in _SILENT or tag.element == 0 or _repeating_group(tag.group):
        return True
    return tag.is_private and (private == "drop" or _opaque(dataset.get_item(tag, keep_deferred=True)))


def _repeating_group(group: int) -> str | None:
    """Kind of a repeating group that lies on the pixel grid: curves (retired) or overlays (PS3.3 C.9.2)."""
    return {0x50: "curve", 0x60: "overlay"}.get(group >> 8)


def _opaque(element: Any) -> bool:
    value = element.value
    return element.VR in (*_OPAQUE, None) and isinstance(value, bytes) and len(value) > OPAQUE_LIMIT


def _name(tag: int) -> str:
    group = tag >> 16
    if repeating := _repeating_group(group):
        return repeating
    if tag in _SHUTTER:
        return "display shutter"
    return "large private elements" if group % 2 else keyword_for_tag(tag)
