"""``qdm-med``: one command a job. Bad input ends in one line on stderr and exit code 1, wrong usage in exit code 2."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from qdm_med._version import __version__
from qdm_med.cli import archive, compare, convert, evaluate, info, listen, lpips, prepare, send, train, upscale
from qdm_med.cli.talk import TALK
from qdm_med.errors import QdmMedError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of the signal."""

app = typer.Typer(
    name="qdm-med",
    help="Super-resolution of CT series with the Quadtree Diffusion Model.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 refused or failed, with the reason in one line; 2 wrong usage; 130 interrupted, and the same "
    "command resumes, with --resume where it trains.",
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"qdm-med {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; warnings and errors stay.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Progress as lines with the time, also where there is no terminal.")
    ] = False,
    log_file: Annotated[
        Path | None, typer.Option(help="File to add those lines to; give it before the command.")
    ] = None,
) -> None:
    """Super-resolution of CT series with the Quadtree Diffusion Model."""
    TALK.begin(quiet=quiet, verbose=verbose, log_file=log_file)


for command in (upscale.upscale, info.info, send.send, listen.listen, prepare.prepare, train.train_vae, train.train):
    app.command()(command)
app.command()(convert.convert)
app.command()(lpips.lpips)
app.command()(compare.compare)
app.command(name="eval")(evaluate.evaluate)
app.add_typer(archive.app, name="archive")


def main() -> None:
    """Run the command line; the only place where an error of ours becomes an exit code."""
    try:
        app()
    except QdmMedError as error:
        line = " ".join(str(error).split())
        sys.stderr.write(f"qdm-med: {line}\n")
        with suppress(QdmMedError):
            TALK.note(f"error: {line}")
        sys.exit(1)
    except KeyboardInterrupt:
        _tell_interruption()
        sys.exit(INTERRUPTED)
    except SystemExit as end:  # typer makes one of a Ctrl-C within a command
        if end.code == INTERRUPTED:
            _tell_interruption()
        raise


def _tell_interruption() -> None:
    line = f"interrupted; {TALK.resume}"
    sys.stderr.write(f"qdm-med: {line}\n")
    with suppress(QdmMedError):
        TALK.note(line)


if __name__ == "__main__":
    main()
