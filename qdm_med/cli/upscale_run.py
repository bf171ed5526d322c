"""Body of ``qdm-med upscale``: one series, or several one after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from qdm_med.cli.progress import CountProgress, SliceProgress, estimate_line, stage, summary_line
from qdm_med.cli.talk import TALK
from qdm_med.errors import ConfigError, NoSeriesError, QdmMedError, SeriesError, SeveralSeriesError
from qdm_med.io.options import WriterOptions

if TYPE_CHECKING:
    from qdm_med.inference.options import UpscaleOptions
    from qdm_med.inference.runs.matrix import Grid
    from qdm_med.inference.runs.preflight import Preflight
    from qdm_med.inference.runs.scales import Fitted, Upscalers
    from qdm_med.inference.upscaler import Upscaler
    from qdm_med.io.find import FoundSeries
    from qdm_med.volume import Volume


class Choice(NamedTuple):
    """Conditions that choose series of a folder; all that are given must hold."""

    uid: str | None = None
    number: int | None = None
    description: str | None = None


@dataclass(frozen=True)
class Asked:
    """The options of one call of ``upscale``, as they stand in its signature."""

    checkpoint: Path | None
    device: str
    options: UpscaleOptions
    writing: WriterOptions
    reading: Mapping[str, Any]
    grid: Grid
    uncertainty: bool = False
    strict: bool = False
    max_memory: int | None = None
    report: Path | None = None
    explain_quadtree: Path | None = None
    also: tuple[Path, ...] = ()
    dry_run: bool = False
    as_json: bool = False


class UpscaleRun:
    """One call of ``upscale``."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def run(self, source: Path, out: Path | None, choice: Choice) -> None:
        """Super-resolve a series, or every chosen series of a folder."""
        from qdm_med.io.write import default_output

        target = out or default_output(source, self._asked.options.scale)
        if self._asked.report is not None:
            from qdm_med.evaluation.report.of_series import check_report_place

            check_report_place(self._asked.report, source, target, overwrite=self._asked.writing.overwrite)
        if self._asked.grid.is_free:
            self._upscalers.all()  # a checkpoint that is invalid is told before a long series is read
        if choice.number is None and choice.description is None:
            self._what_is_there(source, target, choice.uid)
        else:
            self._what_is_meant(source, target, choice)

    def _what_is_there(self, source: Path, target: Path, uid: str | None) -> None:
        from qdm_med.io.find import find_series

        try:
            volume = self._read(source, target, uid)
        except (SeveralSeriesError, NoSeriesError):
            several = [] if uid else list(find_series(source, exclude=(target,), **self._finding))
            if all(each.refused for each in several):
                raise
            self._many(several, source, target)
        else:
            self._one(volume, target)

    def _what_is_meant(self, source: Path, target: Path, choice: Choice) -> None:
        from qdm_med.io.find import chosen_series, find_series

        meant = chosen_series(list(find_series(source, exclude=(target,), **self._finding)), **choice._asdict())
        if not meant:
            told = ", ".join(f"{name} {value}" for name, value in choice._asdict().items() if value is not None)
            raise SeriesError(f"{source}: holds no series with {told}; see qdm-med info {source}")
        if len(meant) == 1:
            self._one(self._read(meant[0].path, target, meant[0].series_uid or None), target)
        else:
            self._many(meant, source, target)

    @property
    def _finding(self) -> dict[str, Any]:
        """Options of reading that decide already which series can be read."""
        return {"rescale_type_is_hu": self._asked.reading["rescale_type_is_hu"]}

    @cached_property
    def _upscalers(self) -> Upscalers:
        from qdm_med.inference.runs.scales import load_upscalers

        asked = self._asked
        with stage("loading the model"):
            return load_upscalers(asked.checkpoint, asked.options, device=asked.device, grid=asked.grid)

    def _read(self, source: Path, target: Path, uid: str | None) -> Volume:
        from qdm_med.io.read import read_volume

        with stage(f"reading {source}"):
            return read_volume(source, series_uid=uid, exclude=target, **self._asked.reading)

    def _many(self, found: Sequence[FoundSeries], root: Path, out: Path) -> None:
        """Super-resolve series one after the other; a failure does not stop the rest."""
        from qdm_med.inference.runs.tree import places_for

        if self._asked.report or self._asked.explain_quadtree or self._asked.also:
            raise ConfigError(
                "--report, --explain-quadtree and --also are for one series; choose one with --series-number"
            )
        found = [each for each in found if self._asked.reading.get("force") or not each.made_by_us]
        todo = [each for each in found if each.made_by_us or not each.refused]
        failed = [f"{each.path}: {each.refused[0]}" for each in found if each not in todo]
        for line in failed:
            typer.echo(f"left out: {line}", err=True)
        places = places_for(todo, root, out, self._asked.options.scale)
        for number, (each, place) in enumerate(zip(todo, places, strict=True), start=1):
            if place.exists() and not self._asked.writing.overwrite:
                typer.echo(f"[{number}/{len(todo)}] {place}: is there already", err=True)
                continue
            typer.echo(f"[{number}/{len(todo)}] {each.path} {each.description}", err=True)
            try:
                self._one(self._read(each.path, place, each.series_uid or None), place)
            except QdmMedError as error:
                failed.append(str(error))
                typer.echo(f"failed: {' '.join(str(error).split())}", err=True)
        if failed:
            raise SeriesError(f"{len(failed)} of {len(found)} series were not super-resolved, first: {failed[0]}")

    def _one(self, volume: Volume, target: Path) -> None:
        from qdm_med.inference.runs.admission import admitted
        from qdm_med.inference.runs.labels import read_labels

        asked = self._asked
        for labels in asked.also:  # told now rather than after all slices
            read_labels(labels, volume)
        fitted = self._upscalers.fitted(volume.geometry)
        upscaler = fitted.upscaler
        spread = asked.uncertainty or (asked.report is not None and upscaler.samples > 1)
        seen = admitted(volume, upscaler, strict=asked.strict, max_memory=asked.max_memory, uncertainty=spread)
        for line in seen.warnings:  # before anything is computed
            typer.echo(f"warning: {line}", err=True)
        if asked.explain_quadtree is not None:
            from qdm_med.inference.runs.explain import explain_volume

            with CountProgress("pictures") as pictures:
                explain_volume(volume, asked.explain_quadtree, upscaler, progress=pictures.update)
        if asked.dry_run:
            self._estimate(volume, fitted, seen)
        else:
            self._compute(volume, target, fitted, seen)

    def _estimate(self, volume: Volume, fitted: Fitted, seen: Preflight) -> None:
        from qdm_med.inference.runs.estimate import estimate_volume

        upscaler, matrix = fitted
        estimate = estimate_volume(volume, upscaler, uncertainty=self._asked.uncertainty, matrix=matrix)
        told = asdict(estimate) | {"warnings": seen.warnings, "measured": seen.parameters()}
        typer.echo(json.dumps(told) if self._asked.as_json else estimate_line(estimate, seen.parameters()))

    def _compute(self, volume: Volume, target: Path, fitted: Fitted, seen: Preflight) -> None:
        from qdm_med.inference.runs.by_tile import ByTile
        from qdm_med.inference.runs.series import upscale_volume

        asked, watch = self._asked, None
        upscaler, writing = fitted.upscaler, replace(self._asked.writing, matrix=fitted.matrix)
        if asked.report is not None:
            from qdm_med.evaluation.report.of_series import report_volume, slices_to_show

            watch = slices_to_show(volume)
        with SliceProgress() as progress:
            summary = upscale_volume(
                volume,
                target,
                upscaler,
                progress=ByTile(upscaler, progress.slices),
                uncertainty=asked.uncertainty,
                writing=writing,
                watch=watch,
                preflight=seen,
            )
        if asked.report is not None and watch is not None:
            report_volume(volume, asked.report, upscaler, summary, watch, options=asdict(asked.options))
        for labels in asked.also:
            self._carry(labels, volume, target, upscaler, writing)
        told = summary_line(summary)
        TALK.note(told)
        typer.echo(json.dumps(asdict(summary), default=str) if asked.as_json else told)

    def _carry(self, labels: Path, volume: Volume, target: Path, upscaler: Upscaler, writing: WriterOptions) -> None:
        from qdm_med.inference.runs.labels import carry_labels
        from qdm_med.inference.runs.series import derivation_of
        from qdm_med.io.write import default_output

        place = target.with_name(default_output(labels, upscaler.scale).name)
        derivation = replace(derivation_of(upscaler), matrix=writing.matrix)
        carry_labels(labels, volume, place, derivation, writing)
