"""CT files to a slice store of 512 x 512 references, split by patient and checked for leaks between splits."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from qdm_med.data.store.conversion import PARTS, Converting, Outcome, Reference, converted
from qdm_med.data.store.references import NEAR_DUPLICATE_HU, REFERENCE_SIDE, nearest_pair, thumbnail
from qdm_med.data.store.slices import SPLITS, SliceRecord
from qdm_med.data.store.sources import LeftOut, SourceSeries, find_sources
from qdm_med.data.store.splits import CsvSplit, HashSplit, SplitRule
from qdm_med.data.store.writer import SliceStoreWriter
from qdm_med.errors import DataError
from qdm_med.volume import FloatArray

Progress = Callable[[float, int, str], None]
"""Told how many series are done, shares of those in hand included, how many there are, and what is in the store."""

_REASONS_SHOWN = 10


@dataclass(frozen=True)
class PrepareReport:
    """Summary of a store's preparation: what went in, what was left out and why.

    Attributes:
        out: The store.
        slices: Slices by split.
        patients: Patients by split.
        series: Series that gave at least one slice.
        resampled: Slices of this run whose matrix was larger than 512 x 512.
        kept: Slices that an earlier, killed run had finished.
        left_out: Files and slices that this run left out, with reasons.
    """

    out: Path
    slices: dict[str, int]
    patients: dict[str, int]
    series: int
    resampled: int
    kept: int
    left_out: tuple[LeftOut, ...]

    def summary(self) -> str:
        """The report in a few lines, reasons with their counts."""
        splits = ", ".join(
            f"{split} {count} slices of {self.patients[split]} patients" for split, count in self.slices.items()
        )
        lines = [f"{self.out}: {sum(self.slices.values())} slices of {self.series} series ({splits})"]
        if self.kept:
            lines.append(f"{self.kept} of them kept from an earlier run")
        if self.resampled:
            lines.append(f"{self.resampled} averaged by area to {REFERENCE_SIDE} x {REFERENCE_SIDE}")
        reasons: Counter[str] = Counter()
        for one in self.left_out:
            reasons[one.reason] += max(1, one.count)
        lines += [f"left out: {count} ({reason})" for reason, count in reasons.most_common(_REASONS_SHOWN)]
        if len(reasons) > _REASONS_SHOWN:
            lines.append(f"left out for {len(reasons) - _REASONS_SHOWN} further reasons")
        return "\n".join(lines)


def _reasons(left_out: Iterable[LeftOut]) -> str:
    return "; ".join(sorted({one.reason for one in left_out})[:3]) or "no CT series was found"


def prepare_slices(
    sources: Path,
    out: Path,
    *,
    split_csv: Path | None = None,
    val_fraction: float = 0.1,
    shard_size: int = 256,
    converting: Converting = converted,
    progress: Progress = lambda done, total, detail: None,
) -> PrepareReport:
    """Convert every CT series and NIfTI, NRRD or MetaImage file under a folder.

    HU are clipped to [-1024, 3071] and padding set to -1024; square matrices above 512 are averaged by area, those
    below left out. A run that was killed is continued by the same call.

    Args:
        sources: Folder, searched at any depth.
        out: Store to create.
        split_csv: List of files (or patients) and their splits; default is a hash of the patient.
        val_fraction: Share of patients in ``val`` under the hash rule.
        shard_size: Slices a shard; also what a killed run may lose.
        converting: As for :func:`build_store`.
        progress: Told of every slice.

    Raises:
        DataError: If nothing usable is found, the store exists, or the splits leak into each other.
    """
    rule: SplitRule = CsvSplit(split_csv) if split_csv else HashSplit(val_fraction)
    tree = find_sources(sources, exclude=out)
    if not tree.series:
        raise DataError(
            f"{sources} holds no CT that can be used: {_reasons(tree.left_out)}; give a folder with CT series"
        )
    return build_store(
        tree.series, out, rule, left_out=tree.left_out, shard_size=shard_size, converting=converting, progress=progress
    )


def build_store(
    series: Sequence[SourceSeries],
    out: Path,
    rule: SplitRule,
    *,
    left_out: Iterable[LeftOut] = (),
    shard_size: int = 256,
    converting: Converting = converted,
    progress: Progress = lambda done, total, detail: None,
) -> PrepareReport:
    """Fill a store from series, in their order.

    Args:
        series: Series to convert, in the same order every time, so that a killed run can be resumed.
        out: Store to create or continue.
        rule: Places patients in splits.
        left_out: Files that the search for series has already left out.
        shard_size: Slices a shard.
        converting: Makes references of the series, here or elsewhere; the store is the same.
        progress: Told of every slice.

    Raises:
        DataError: As for :func:`prepare_slices`.
    """
    with SliceStoreWriter(
        out, shard_size=shard_size, slice_shape=(REFERENCE_SIDE, REFERENCE_SIDE), split_rule=rule.description
    ) as writer:
        filling = _Filling(writer, rule, list(left_out))
        todo = [one for one in series if one.series not in filling.finished]
        count = _Count(lambda done: progress(done, len(series), f"{len(writer)} slices"), len(series) - len(todo))
        for one, outcomes in converting(todo, count.told):
            filling.add_series(one, outcomes)
            count.told(one.first_file, 1.0)
        filling.check_leaks()
        shutil.rmtree(out / PARTS, ignore_errors=True)
        return filling.report(out)


class _Count:
    """Count of series that are done, with shares of those in hand; it never goes back, whatever is begun again.

    Args:
        tell: Takes the count.
        done: Series that an earlier run has finished.
    """

    def __init__(self, tell: Callable[[float], None], done: int) -> None:
        self._tell, self._done = tell, done
        self._shares: dict[str, float] = {}
        self._finished: set[str] = set()
        tell(done)

    def told(self, first_file: str, share: float) -> None:
        """Take the share of a series that is converted."""
        if first_file in self._finished or share <= self._shares.get(first_file, 0.0):
            return
        if share < 1:
            self._shares[first_file] = share
        else:
            self._shares.pop(first_file, None)
            self._finished.add(first_file)
        self._tell(self._done + len(self._finished) + sum(self._shares.values()))


@dataclass
class _Filling:
    """State of a run: slices in the store, and what was left out."""

    writer: SliceStoreWriter
    rule: SplitRule
    left_out: list[LeftOut]
    resampled: int = 0
    checksums: set[str] = field(default_factory=set)
    records: list[SliceRecord] = field(default_factory=list)
    thumbnails: list[FloatArray] = field(default_factory=list)
    split_of: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index, record in enumerate(self.writer.kept):
            self._remember(record, thumbnail(self.writer.kept_hu(index)))
        kept = [record.series for record in self.writer.kept]
        # The last series of a killed run may be incomplete; those before it were finished.
        self._unfinished = kept[-1] if kept else None
        self.finished = set(kept) - {self._unfinished}

    def add_series(self, series: SourceSeries, outcomes: Iterable[Outcome]) -> None:
        """Add the slices of a series."""
        for one in outcomes:
            if isinstance(one, LeftOut):
                self.left_out.append(one)
            else:
                self._add_slice(series, one)

    def _add_slice(self, series: SourceSeries, reference: Reference) -> None:
        if reference.sha256 in self.checksums:
            if series.series != self._unfinished:
                self._leave_out(series.label, "exact duplicate")
            return
        if reference.hu.min() == reference.hu.max():
            self._leave_out(series.label, "empty slice")
            return
        assignment = self.rule.assign(series.file_of(reference.index), series.patient)
        if assignment is None:
            self._leave_out(series.label, "not in the split list")
            return
        self.resampled += reference.resampled
        record = SliceRecord(
            split=assignment.split,
            patient=assignment.patient,
            series=series.series,
            position_mm=reference.position_mm,
            pixel_spacing_mm=reference.pixel_spacing_mm,
            slice_thickness_mm=series.slice_thickness_mm,
            kernel=series.kernel,
            manufacturer=series.manufacturer,
            source=assignment.source,
            sha256=reference.sha256,
        )
        self._remember(record, reference.thumbnail)
        self.writer.add(reference.hu, record)

    def _remember(self, record: SliceRecord, seen: FloatArray) -> None:
        earlier = self.split_of.setdefault(record.patient, record.split)
        if earlier != record.split:
            raise DataError(
                f"patient {record.patient} is in splits {earlier} and {record.split}; put all slices of a patient into one"
            )
        self.checksums.add(record.sha256)
        self.records.append(record)
        self.thumbnails.append(seen)

    def _leave_out(self, where: str, reason: str) -> None:
        self.left_out.append(LeftOut(where, reason, 1))

    def check_leaks(self) -> None:
        """Refuse splits that show the same place of the same person under two names."""
        if not self.records:
            raise DataError(
                f"nothing to put into {self.writer.path}: {_reasons(self.left_out)}; give a folder with CT series"
            )
        thumbnails = np.stack(self.thumbnails)
        numbers = {s: [n for n, record in enumerate(self.records) if record.split == s] for s in SPLITS}
        for one, other in combinations([s for s in SPLITS if numbers[s]], 2):
            first, second, difference = nearest_pair(thumbnails[numbers[one]], thumbnails[numbers[other]])
            if difference < NEAR_DUPLICATE_HU:
                a, b = self.records[numbers[one][first]], self.records[numbers[other][second]]
                raise DataError(
                    f"patient {a.patient} ({one}) and patient {b.patient} ({other}) have slices that differ by "
                    f"{difference:.1f} HU at 16 x 16: the same person in two splits; put both into one with --split-csv"
                )

    def report(self, out: Path) -> PrepareReport:
        splits = Counter(record.split for record in self.records)
        patients = Counter(self.split_of.values())
        return PrepareReport(
            out=out,
            slices={split: splits[split] for split in SPLITS if splits[split]},
            patients={split: patients[split] for split in SPLITS if splits[split]},
            series=len({record.series for record in self.records}),
            resampled=self.resampled,
            kept=len(self.writer.kept),
            left_out=tuple(self.left_out),
        )
