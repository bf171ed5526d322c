"""Source of slices for commands that were given none: ``./store``, or phantoms drawn for a smoke test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

DEFAULT_STORE = Path("store")


@contextmanager
def data_or_phantoms(data: Path | None) -> Iterator[Path]:
    """Choose the named store, else ``./store`` if it exists, else built-in phantoms for the duration of the block."""
    from qdm_med.data.store.slices import HEADER_FILE
    from qdm_med.data.store.smoke import write_smoke_store

    if data is not None:
        yield data
    elif (DEFAULT_STORE / HEADER_FILE).is_file():
        typer.echo("--data: ./store", err=True)
        yield DEFAULT_STORE
    else:
        typer.echo(
            "no --data and no ./store: this is a smoke test on built-in phantoms, whose numbers say nothing about patients; "
            "make a store with qdm-med prepare",
            err=True,
        )
        with tempfile.TemporaryDirectory(prefix="qdm-med-") as folder:
            yield write_smoke_store(Path(folder, "phantoms"))
