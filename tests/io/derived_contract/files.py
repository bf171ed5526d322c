"""Sections 5 and 6: what is bound to the old grid, private elements, File Meta Information."""

from __future__ import annotations

from pydicom.tag import Tag

from tests.io.derived_contract.slices import Mutate, Mutations, Rule
from tests.io.derived_contract.source import SOURCE_ROOT


def private_kept(pair):
    private = {int(each.tag): each.value for each in pair.derived if each.tag.is_private}
    return private.keys() == {0x00290010, 0x00291002, 0x00291003} and all(
        pair.source[tag].value == value for tag, value in private.items()
    )


RULES: dict[str, Rule] = {
    "5 overlays and curves": lambda pair: not any(each.tag.group >> 8 in (0x50, 0x60) for each in pair.derived),
    "6 private": private_kept,
    "6 meta names the instance": lambda pair: (
        (pair.derived.file_meta.MediaStorageSOPClassUID, pair.derived.file_meta.MediaStorageSOPInstanceUID)
        == (pair.derived.SOPClassUID, pair.derived.SOPInstanceUID)
    ),
    "6 implementation": lambda pair: (
        pair.derived.file_meta.get("ImplementationClassUID", "").startswith("2.25.")
        and pair.derived.file_meta.get("ImplementationVersionName", "").startswith("qdm-med")
    ),
    "6 no source title": lambda pair: "SourceApplicationEntityTitle" not in pair.derived.file_meta,
    "6 transfer syntax": lambda pair: pair.derived.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1",
    "6 empty preamble": lambda pair: pair.derived.preamble == bytes(128),
}


def meta(keyword, value) -> Mutate:
    return lambda series: setattr(series[0].file_meta, keyword, value)


MUTATIONS: Mutations = [
    ("5 overlays and curves", lambda s: s[0].add_new(0x60020010, "US", 20), "drop.overlays_curves"),
    ("5 overlays and curves", lambda s: s[0].add_new(0x50000005, "US", 1), "drop.overlays_curves"),
    ("6 private", lambda s: s[0].pop(Tag(0x0029, 0x1002)), "keep.private_keep"),
    ("6 private", lambda s: s[0].add_new(0x00291001, "OB", bytes(5000)), None),
    ("6 private", lambda s: s[0].private_block(0x0031, "QDM", create=True).add_new(1, "LO", "x"), "keep.nothing"),
    ("6 meta names the instance", meta("MediaStorageSOPInstanceUID", "1.2.3"), "meta.sop_matches_dataset"),
    ("6 meta names the instance", meta("MediaStorageSOPClassUID", "1.2.3"), "meta.sop_matches_dataset"),
    ("6 implementation", meta("ImplementationClassUID", f"{SOURCE_ROOT}.9"), "meta.implementation"),
    ("6 implementation", meta("ImplementationVersionName", "SCANNER"), None),
    ("6 no source title", meta("SourceApplicationEntityTitle", "CT1"), "meta.no_source_ae"),
    ("6 transfer syntax", meta("TransferSyntaxUID", "1.2.840.10008.1.2.1.99"), "meta.transfer_syntax"),
    ("6 empty preamble", lambda s: setattr(s[0], "preamble", b"x" * 128), None),
]
