"""Files of a folder, in one order on every machine."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from qdm_med.errors import SeriesError
from qdm_med.io.output.job_folder import is_job_folder


def walk_files(root: Path, *, exclude: Collection[Path] = ()) -> Iterator[Path]:
    """List every regular file below ``root`` once, folders and names sorted.

    Symbolic links are followed; a folder or file reached twice, by a loop or by two links, is given once. What
    a killed run of this tool left behind is not input and is passed over.

    Args:
        root: Folder to walk, or a single file, which is then all there is.
        exclude: Folders to pass over.

    Raises:
        SeriesError: If a folder cannot be listed.
    """
    if not root.is_dir():
        yield root
        return
    seen = {folder.resolve() for folder in exclude}
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=_refuse):
        here = Path(folder).resolve()
        if here in seen or is_job_folder(here):
            subfolders.clear()
            continue
        seen.add(here)
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            # Unlike Path.resolve, realpath does not fail on a link to itself; it asks for every folder of the path.
            real = Path(os.path.realpath(path)) if path.is_symlink() else here / name
            if real not in seen and path.is_file():
                seen.add(real)
                yield path


def _refuse(error: OSError) -> None:
    raise SeriesError(f"{error.filename}: folder cannot be listed ({error.strerror}); grant access or move it away")
