"""Wording of ``qdm-med archive`` on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from qdm_med.archive.manifest import Manifest
    from qdm_med.archive.run import RunSummary
    from qdm_med.archive.tally import Snapshot
    from qdm_med.archive.verify import Verification

SHOWN = 10
"""Reasons and series that are named one by one."""


def plan_lines(manifest: Manifest, out: Path) -> str:
    """Describe what a run would do."""
    accepted = manifest.accepted
    slices = sum(one.slices for one in accepted)
    seconds = sum(one.seconds for one in accepted)
    written, read = (sum(getattr(one, name) for one in accepted) for name in ("output_bytes", "input_bytes"))
    memory = max(one.memory_bytes for one in accepted)
    lines = [
        f"{len(accepted)} series, {slices} slices: about {_duration(seconds)} of one worker of this machine, at most "
        f"{memory / 2**30:.2f} GiB of memory a worker, {read / 2**30:.2f} GiB to read, {written / 2**30:.2f} GiB to write"
    ]
    refused = [one for one in manifest.series if one.refused]
    if refused:
        lines.append(f"{len(refused)} refused, `qdm-med archive report {out} --csv FILE` lists all:")
        lines += [f"  {one.source}: {one.refused}" for one in refused[:SHOWN]]
    return "\n".join([*lines, f"planned for {out}; nothing was computed"])


def run_lines(summary: RunSummary) -> str:
    """Summarise a run."""
    already = f", {summary.already} were done before" if summary.already else ""
    refused = f", {summary.refused} refused by the plan" if summary.refused else ""
    lines = [
        f"{summary.made} series ({summary.slices} slices) in {_duration(summary.seconds)}{already}{refused}: {summary.out}"
    ]
    if summary.failed:
        lines.append(f"{len(summary.failed)} failed:")
        lines += [f"  {source}: {reason}" for source, reason in list(summary.failed.items())[:SHOWN]]
    if len(summary.failed) > SHOWN:
        lines.append(f"  ... all in `qdm-med archive report {summary.out} --csv FILE`")
    return "\n".join(lines)


def status_table(now: Snapshot) -> Table:
    """Lay out the progress of a run, one row a series under way."""
    left = "" if now.seconds_left is None or now.state != "running" else f", {_duration(now.seconds_left)} left"
    table = Table(
        title=f"{now.state}: {now.done} of {now.series} series done, {now.failed} failed, {now.refused} refused",
        caption=f"{now.slices_done} of {now.slices} slices, {now.slices_per_second:.2f} slices/s, "
        f"{now.active_leaves:.0%} of leaves active, {now.workers} workers{left}",
        title_justify="left",
        caption_justify="left",
    )
    for name in ("running", "slices", "minutes", "worker"):
        table.add_column(name)
    for one in now.running:
        minutes = f"{(now.updated - one.since) / 60:.1f}"
        share = one.done / max(1, one.total)
        table.add_row(one.source, f"{int(one.done)}/{one.total} ({share:.0%})", minutes, one.worker)
    return table


def figures_line(figures: Mapping[str, Any]) -> str:
    """Add up all series in one line."""
    return (
        f"{figures['done']} done, {figures['failed']} failed, {figures['waiting']} waiting, {figures['refused']} refused; "
        f"{figures['slices']} slices, {figures['output_gib']:.2f} GiB, {figures['worker_hours']:.2f} h of workers, "
        f"{figures['seconds_per_slice']:.3f} s a slice, {figures['active_leaves']:.0%} of leaves active"
    )


def verify_lines(found: Verification) -> str:
    """Report the result of a comparison."""
    how = "byte for byte" if found.tolerance_hu == 0 else f"to within {found.tolerance_hu:g} HU (not made on a CPU)"
    what = f"{found.slices} slices of {found.series} series made again (--seed {found.seed}), compared {how}"
    if not found.differences:
        return f"{what}: all the same"
    return "\n".join([f"{what}: {len(found.differences)} differences", *(f"  {line}" for line in found.differences)])


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
