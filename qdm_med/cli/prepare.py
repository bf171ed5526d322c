"""``qdm-med prepare``: CT files to a slice store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qdm_med.cli.cluster import Cluster, Slurm, Threads, Workers, wanted_cluster
from qdm_med.cli.progress import CountProgress


def prepare(
    sources: Annotated[Path, typer.Option(help="Folder with DICOM series and NIfTI files, at any depth.")],
    out: Annotated[Path, typer.Option(help="Slice store to create.")],
    split_csv: Annotated[
        Path | None, typer.Option(help="CSV with the columns file and split. Default: split by a hash of the patient.")
    ] = None,
    cluster: Cluster = None,
    workers: Workers = None,
    threads: Threads = None,
    slurm: Slurm = None,
) -> None:
    """Turn CT files into a slice store of 512 x 512 references, split by patient; a cluster makes the same store."""
    from qdm_med.data.store.conversion import Converting, converted
    from qdm_med.data.store.prepare import prepare_slices

    converting: Converting = converted
    if cluster:
        wanted = wanted_cluster(cluster, workers, threads, slurm)
        from qdm_med.archive.store import ClusterConversion

        converting = ClusterConversion(wanted, sources, out)
    with CountProgress("series", before=f"looking for CT series in {sources}") as series:
        report = prepare_slices(sources, out, split_csv=split_csv, converting=converting, progress=series.update)
    series.say(report.summary())
