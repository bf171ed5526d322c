"""Options of every command that can work on a cluster, declared once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from qdm_med.archive.cluster import Wanted

CLUSTER_PANEL = "Cluster"
"""Panel of the help."""
CLUSTER_HELP = "local (this machine), slurm, or a Dask scheduler such as tcp://192.0.2.1:8786."

Cluster = Annotated[
    str | None,
    typer.Option(rich_help_panel=CLUSTER_PANEL, help=f"Work on a cluster: {CLUSTER_HELP} Default: in this process."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=CLUSTER_PANEL,
        min=1,
        help="Workers to start. Default: what cores, GPUs and memory allow; Slurm: 1.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(rich_help_panel=CLUSTER_PANEL, min=1, help="Threads of a worker. Default: cores over workers."),
]
Slurm = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=CLUSTER_PANEL, help="Option of dask-jobqueue, such as queue=gpu or walltime=24:00:00; repeat."
    ),
]


def wanted_cluster(
    cluster: str, workers: int | None, threads: int | None, slurm: list[str] | None, **others: Any
) -> Wanted:
    """Cluster that the options ask for; ``others`` are further fields of :class:`qdm_med.archive.cluster.Wanted`."""
    from qdm_med.archive.cluster import Wanted

    return Wanted(cluster, workers=workers, threads=threads, slurm=_pairs(slurm or []), **others)


def _pairs(texts: list[str]) -> dict[str, Any]:
    """Read pairs such as ``queue=gpu``; values that are JSON become numbers and lists."""
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--slurm")
        try:
            pairs[name] = json.loads(value)
        except ValueError:
            pairs[name] = value
    return pairs
