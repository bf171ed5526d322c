"""Options that hold several values in one word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import typer


def names(text: str) -> tuple[str, ...]:
    """Read a list such as ``bicubic,qdm``."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def named_folder(text: str) -> tuple[str, Path]:
    """Read ``NAME=DIR``."""
    name, equals, folder = (part.strip() for part in text.partition("="))
    if not (name and equals and folder):
        raise typer.BadParameter(f"{text!r} is not NAME=DIR, such as DiffBIR=./diffbir", param_hint="--results")
    return name, Path(folder)


Number = TypeVar("Number", int, float)


def numbers(text: str, kind: Callable[[str], Number], option: str) -> tuple[Number, ...]:
    """Read a list such as ``1,4,15``."""
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 1,4", param_hint=option) from None
