"""Verbosity of the commands: quiet, verbose, log file; results go to stdout in any case."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from qdm_med.errors import ConfigError

LINE_SECONDS = 10.0
"""Lines about progress are at least so far apart."""
SAME_AGAIN = "start the same command again to resume"


@dataclass
class Talk:
    """Verbosity that the user asked for; one object for the process.

    Attributes:
        quiet: No bars, and nothing on stderr but warnings and errors.
        verbose: Lines about progress with the time on stderr, also where that is no terminal.
        log_file: The same lines, warnings, errors and results are added to this file.
        resume: What a user does after Ctrl-C; a command that does otherwise says so.
    """

    quiet: bool = False
    verbose: bool = False
    log_file: Path | None = None
    resume: str = SAME_AGAIN

    @property
    def bars(self) -> bool:
        """Whether bars are shown: on a terminal, unless the user asked for lines or for silence."""
        return sys.stderr.isatty() and not self.quiet and not self.verbose

    @property
    def lines(self) -> bool:
        """Whether anybody reads lines about progress."""
        return self.verbose or self.log_file is not None

    def begin(self, *, quiet: bool, verbose: bool, log_file: Path | None) -> None:
        """Set the verbosity that the user asked for.

        Raises:
            ConfigError: If the file cannot be written.
        """
        self.quiet, self.verbose, self.log_file, self.resume = quiet, verbose, log_file, SAME_AGAIN
        if log_file is not None:
            self.note(f"qdm-med {' '.join(sys.argv[1:])}")

    def progress(self, line: str) -> None:
        """Write a line about progress."""
        if self.verbose:
            sys.stderr.write(f"{stamped(line)}\n")
        self.note(line)

    def note(self, line: str) -> None:
        """Write a line to the log file alone."""
        if self.log_file is None:
            return
        try:
            with self.log_file.open("a", encoding="utf-8", errors="replace") as file:
                file.write(f"{stamped(line)}\n")
        except OSError as error:
            place, self.log_file = self.log_file, None
            raise ConfigError(f"{place}: cannot be written ({error.strerror}); choose another --log-file") from error


def stamped(line: str) -> str:
    """Put the local time, with its offset, before a line."""
    return f"{datetime.now().astimezone().isoformat(timespec='seconds')} {line}"


TALK = Talk()


class Lines:
    """Lines about a count: one at once, then at most one every ten seconds, and one at the end.

    Args:
        what: Name of the counted things.
        tell: Takes the lines; ``None``: whoever asked for lines reads them.
    """

    def __init__(self, what: str, tell: Callable[[str], None] | None = None) -> None:
        self._what, self._tell = what, tell
        self._first: tuple[float, float] | None = None
        self._told, self._done = -1e9, 0.0

    def update(self, done: float, total: int, detail: str = "") -> None:
        """Report the count if a line is due."""
        now, tell = time.monotonic(), self._tell or TALK.progress
        if done < self._done:  # something else is counted now
            self._first, self._told = None, -1e9
        self._done = done
        if not (self._tell or TALK.lines) or (now - self._told < LINE_SECONDS and done < total):
            return
        self._told = now
        self._first = self._first or (now, done)
        share = f" ({done / total:.0%})" if done % 1 else ""  # within one that takes long, it moves
        tell(
            f"{int(done)} of {total} {self._what}{share}{self._left(now, done, total)}{f', {detail}' if detail else ''}"
        )

    def _left(self, now: float, done: float, total: int) -> str:
        since, before = self._first or (now, done)
        if done <= before or done >= total:
            return ""
        seconds = int((now - since) / (done - before) * (total - done))
        return f", about {seconds // 60} min {seconds % 60} s left"
