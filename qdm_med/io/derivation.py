"""Derivation of an output: the record of its making, and the identity of the job that makes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from qdm_med._version import __version__

TOOL = "qdm-med"
"""Name of the tool in its outputs, by which it knows its own work again."""


@dataclass(frozen=True)
class Derivation:
    """Record of how a derived image was computed.

    Attributes:
        scale: Magnification of rows and columns.
        model: Name of the model.
        model_sha256: Hex digest of the model's file.
        parameters: Names and values of what else determines the pixels (steps, seed, ...).
        matrix: Rows and columns of the output, to which the magnified slices are averaged by area; ``None``: they are
            written as they are.
    """

    scale: int
    model: str
    model_sha256: str
    parameters: tuple[tuple[str, str], ...] = ()
    matrix: tuple[int, int] | None = None

    def description(self) -> str:
        """The record in one ASCII line, the text of DerivationDescription (0008,2111).

        >>> Derivation(4, "ct-small", "0123456789abcdef", (("steps", "4"), ("seed", "0"))).description()
        'qdm-med 0.1.0: 4x4 in-plane super-resolution, model ct-small sha256:0123456789ab, steps 4, seed 0'
        """
        parameters = "".join(f", {name} {value}" for name, value in self.parameters)
        averaged = f" averaged by area to {self.matrix[0]}x{self.matrix[1]}" if self.matrix else ""
        text = (
            f"{TOOL} {__version__}: {self.scale}x{self.scale} in-plane super-resolution{averaged}, "
            f"model {self.model_line()}{parameters}"
        )
        return ascii_text(text)

    def matrix_of(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns that a slice of ``rows`` and ``columns`` becomes."""
        return self.matrix or (rows * self.scale, columns * self.scale)

    def label(self) -> str:
        """A few words that distinguish results of one source in a list of series.

        >>> Derivation(4, "ct-small", "0123456789abcdef", (("mode", "faithful"), ("seed", "7"))).label()
        'SRx4 AI faithful seed 7'
        """
        known = dict(self.parameters)
        mode = [known["mode"]] if "mode" in known else []
        seed = [f"seed {known['seed']}"] if "seed" in known else []
        size = [f"{self.matrix[0]}x{self.matrix[1]}"] if self.matrix else []
        return ascii_text(" ".join([f"SRx{self.scale} AI", *size, *mode, *seed]))

    def assuming(self, assumptions: tuple[tuple[str, str], ...]) -> Derivation:
        """The same record, of a source that was read under some assumptions."""
        return replace(self, parameters=(*self.parameters, *assumptions))

    def of_spread(self, calibration: str) -> Derivation:
        """The same record, for the standard deviation of the samples in place of their mean.

        Args:
            calibration: What was done to it, or that nothing was.
        """
        values = ("values", "standard deviation of the samples in HU"), ("calibration", calibration)
        return replace(self, parameters=(*self.parameters, *values))

    def model_line(self) -> str:
        """The model's name and the first 12 digits of its digest."""
        return ascii_text(f"{self.model} sha256:{self.model_sha256[:12]}")

    def job_key(self, series_key: str) -> str:
        """Hex digest that two runs share if, and only if, they compute the same images of the same series."""
        record = {"series": series_key, "version": __version__, **asdict(self)}
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def ascii_text(text: str) -> str:
    r"""Reduce a text to what every DICOM character set holds: printable ASCII without the value separator (PS3.5 6.1).

    >>> ascii_text("modèle a\\b")
    'mod?le a?b'
    """
    return "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in text)
