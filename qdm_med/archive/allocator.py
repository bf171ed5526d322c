"""Allocator of a worker: what a tensor leaves is kept for the next one, as in a process that Dask did not start.

Dask starts its workers with ``MALLOC_TRIM_THRESHOLD_=65536``, for data that lie idle for hours. glibc then gives every freed
block of more than 128 KiB back to the system and asks for it again, page by page: 21,000 pages a slice of 64 x 64, a fifth of the time
of a worker, and the more the more workers share the memory's bandwidth.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

DASKS = "65536"
"""``MALLOC_TRIM_THRESHOLD_`` of Dask's workers; another value is somebody's wish."""

LARGEST_KEPT = 32 * 2**20
"""Bytes of the largest block that is kept: what glibc comes to by itself, and the most that it takes (``mallopt(3)``)."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


@cache
def keep_freed_memory() -> bool:
    """Keep freed blocks in this process, up to twice the largest at the end of the heap; False where nothing is to be changed."""
    if os.environ.get("MALLOC_TRIM_THRESHOLD_") != DASKS:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library or system
        return False
    kept = mallopt(_MMAP_THRESHOLD, LARGEST_KEPT)
    return bool(kept and mallopt(_TRIM_THRESHOLD, 2 * LARGEST_KEPT))
