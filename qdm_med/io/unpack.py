"""Zip archives, unpacked so that nothing leaves the folder and nothing fills the disk."""

from __future__ import annotations

import calendar
import os
import zipfile
import zlib
from pathlib import Path

from qdm_med.errors import SeriesError
from qdm_med.io.dicom.file import shown
from qdm_med.io.output.job_folder import require_space


def marker(folder: Path) -> Path:
    """Path of the file that marks a folder as completely unpacked."""
    return folder.with_name(f"{folder.name}.unpacked")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive; what an earlier call has finished stays.

    Files keep the times that the archive gives them, so that a resumed run knows its source again.

    Args:
        archive: A zip file.
        folder: Folder to fill; made if absent. Names in the archive cannot lead out of it.

    Raises:
        SeriesError: If the archive is damaged, encrypted, or larger than the free space.
    """
    if marker(folder).exists():
        return
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            require_space(folder, sum(member.file_size for member in members))
            for member in members:
                _extract(opened, member, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise SeriesError(
            f"{shown(archive)}: zip archive cannot be unpacked ({type(error).__name__}: damaged, encrypted or of an "
            "unknown compression); unpack it by hand or copy it again"
        ) from error
    except OSError as error:
        raise SeriesError(
            f"{shown(archive)}: cannot be unpacked ({error.strerror or error}); free some space"
        ) from error
    marker(folder).touch()


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    path = opened.extract(member, folder)  # drops drive letters, leading slashes and ".."
    when = calendar.timegm((*member.date_time, 0, 0, 0))
    os.utime(path, (when, when))
