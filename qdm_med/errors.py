"""Errors of the package: each names the thing, the value, the rule and the remedy.

The command line turns every :class:`QdmMedError` into one line on stderr and exit code 1.
"""


class QdmMedError(Exception):
    """Something the user can mend; the message is one line and says how."""


class GeometryError(QdmMedError):
    """A grid that cannot be placed in the patient."""


class SeriesError(QdmMedError):
    """Image files that cannot be read as one CT series, or an output that cannot be written."""


class NoSpaceError(SeriesError):
    """An output for which the disk has no room."""


class SeveralSeriesError(SeriesError):
    """A folder that holds more than the one series that was asked for."""


class NoSeriesError(SeriesError):
    """A folder that holds no DICOM CT series."""


class CheckpointError(QdmMedError):
    """A checkpoint that is damaged, foreign, or made for another task."""


class ConfigError(QdmMedError):
    """A configuration that names something unknown or contradictory."""


class DataError(QdmMedError):
    """A slice store or benchmark that is missing, damaged or unsuitable."""


class TransferError(QdmMedError):
    """Another DICOM node that cannot be reached, refuses, or fails to store."""


class ClusterError(QdmMedError):
    """A scheduler or workers that cannot be reached, do not match, or were lost."""
