"""The output of an archive and the hidden folder in it that says what is planned, under way and done.

``.qdm-med-archive/`` holds ``settings.json`` (what all outputs are made with), ``manifest.jsonl`` (the plan),
``events.jsonl`` (what happened), ``status.json`` (where the run is), and while series are under way ``tickets/`` (what was begun),
``locks/`` and ``unpacked/``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qdm_med.archive.manifest import Manifest
from qdm_med.archive.receipt import write_json
from qdm_med.archive.settings import Settings, changes
from qdm_med.errors import ConfigError, DataError, SeriesError
from qdm_med.io.dicom.file import shown
from qdm_med.io.output.job_folder import os_errors_as_series_errors
from qdm_med.io.output.lock import OutputLock, is_locked

NAME = ".qdm-med-archive"


class ArchiveFolder:
    """Output folder of an archive.

    Args:
        out: Root of the outputs.
    """

    def __init__(self, out: Path) -> None:
        self.out = out.resolve()
        self.state = self.out / NAME
        self.manifest = self.state / "manifest.jsonl"
        self.events = self.state / "events.jsonl"
        self.status = self.state / "status.json"
        self.tickets = self.state / "tickets"
        self.locks = self.state / "locks"
        self.unpacked = self.state / "unpacked"
        self._settings = self.state / "settings.json"

    @classmethod
    def existing(cls, out: Path) -> ArchiveFolder:
        """Open the archive at ``out``.

        Raises:
            DataError: If there is none.
        """
        folder = cls(out)
        if not folder.state.is_dir():
            raise DataError(f"{shown(out)}: no archive of this tool; give the --out of `qdm-med archive run`")
        return folder

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Keep every other run out while the block lasts.

        Raises:
            SeriesError: If another run has the output, or it cannot be written.
        """
        with os_errors_as_series_errors(self.out):
            self.state.mkdir(parents=True, exist_ok=True)
            lock = OutputLock(self.out)
        try:
            yield
        finally:
            lock.release()

    @property
    def is_owned(self) -> bool:
        """Whether a run has the archive now."""
        return is_locked(self.out)

    def planned(self) -> Manifest:
        """The plan.

        Raises:
            DataError: If there is none.
        """
        return Manifest.read(self.manifest)

    def require_settings(self, settings: Settings) -> None:
        """Refuse to continue with other settings than those of the outputs that are already there.

        Raises:
            ConfigError: If a setting differs, with all that differ.
        """
        earlier = self.settings()
        if earlier is None:
            write_json(self._settings, settings.stated)
            return
        if changed := changes(earlier, json.loads(json.dumps(settings.stated))):
            raise ConfigError(
                f"{shown(self.out)}: was begun with other settings ({'; '.join(changed)}); "
                "use them again or choose another --out"
            )

    def settings(self) -> dict[str, Any] | None:
        """Settings of the outputs that are already there; ``None`` before the first."""
        try:
            stated: dict[str, Any] = json.loads(self._settings.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            raise DataError(f"{self._settings}: is damaged; choose another --out") from None
        return stated

    def tidy(self) -> None:
        """Remove leftovers of killed workers; only where every series has ended."""
        for folder in (self.unpacked, self.locks, self.tickets):
            shutil.rmtree(folder, ignore_errors=True)


def require_apart(tree: Path, out: Path) -> None:
    """Refuse an output that lies in its input, or holds it.

    Raises:
        SeriesError: If they are not apart, or the input is missing.
    """
    if not tree.is_dir():
        raise SeriesError(f"{shown(tree)}: no such folder; give the folder that holds the CT series")
    inner, outer = out.resolve(), tree.resolve()
    if inner == outer or outer in inner.parents:
        raise SeriesError(f"{shown(out)}: lies inside the input {shown(tree)}; choose another --out")
    if inner in outer.parents:
        raise SeriesError(f"{shown(out)}: holds the input {shown(tree)}; choose another --out")
    if inner.exists() and not inner.is_dir():
        raise SeriesError(f"{shown(out)}: a file is in the way; choose another --out")
    existing = next(parent for parent in (inner, *inner.parents) if parent.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise SeriesError(f"{shown(out)}: {shown(existing)} is not writable; choose another --out")
