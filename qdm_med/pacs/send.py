"""Transfer of a folder to another node or a web service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qdm_med.errors import SeriesError
from qdm_med.io.dicom.file import quiet, shown
from qdm_med.io.dicom.series import scan
from qdm_med.pacs.addresses import Destination, Node
from qdm_med.pacs.c_store import store_by_association
from qdm_med.pacs.stow import store_by_web

DEFAULT_TITLE = "QDM_MED"
"""Our application entity title."""


def send_folder(
    path: Path,
    destination: Destination,
    *,
    title: str = DEFAULT_TITLE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Send every DICOM object below a folder, or one file; other files are passed over.

    Args:
        path: Folder or file; it is not changed.
        destination: Node or web service that takes them.
        title: Our own application entity title.
        progress: Told of instances done and in all.

    Returns:
        Number of instances, each of which the destination says that it has stored.

    Raises:
        SeriesError: If there is nothing to send, or a file is damaged; nothing is then sent.
        TransferError: If the destination cannot be reached, refuses, or fails.
    """
    if not path.exists():
        raise SeriesError(f"{shown(path)}: no such file or folder; give a DICOM file or a folder of them")
    with quiet():
        found = scan(path)
        if found.damaged:
            raise SeriesError(found.damaged[0])
        if not found.headers:
            raise SeriesError(f"{shown(path)}: holds no DICOM objects to send; give a DICOM file or a folder of them")
        if isinstance(destination, Node):
            store_by_association(found.headers, destination, title=title, progress=progress)
        else:
            store_by_web(found.headers, destination, progress=progress)
    return len(found.headers)
