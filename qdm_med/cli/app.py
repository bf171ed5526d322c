"""``qdm-med``: one command a job. Bad input ends in one line on stderr and exit code 1, wrong usage in exit code 2."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from qdm_med._version import __version__
from qdm_med.cli import archive, compare, convert, evaluate, info, listen, prepare, send, train, upscale
from qdm_med.errors import QdmMedError

app = typer.Typer(
    name="qdm-med",
    help="Super-resolution of CT series with the Quadtree Diffusion Model.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 refused or failed, with the reason in one line; 2 wrong usage; 130 interrupted, and the same "
    "command resumes.",
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
) -> None:
    """Super-resolution of CT series with the Quadtree Diffusion Model."""


for command in (upscale.upscale, info.info, send.send, listen.listen, prepare.prepare, train.train_vae, train.train):
    app.command()(command)
app.command()(convert.convert)
app.command()(compare.compare)
app.command(name="eval")(evaluate.evaluate)
app.add_typer(archive.app, name="archive")


def main() -> None:
    """Run the command line; the only place where an error of ours becomes an exit code."""
    try:
        app()
    except QdmMedError as error:
        sys.stderr.write(f"qdm-med: {' '.join(str(error).split())}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("qdm-med: interrupted; start the same command again to resume\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
