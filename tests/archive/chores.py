"""What the tests' workers do; nothing heavy is imported, so that workers start quickly."""

from __future__ import annotations

import os
import resource
import signal
import time


def noted(item, tell):
    """Note that an item was begun; kill the worker the first time, or each time for the item that is poisonous."""
    folder, name = item
    tell({"event": "started", "id": name})
    with (folder / name).open("a") as file:
        file.write(f"{os.getpid()}\n")
    begun = len((folder / name).read_text().splitlines())
    time.sleep(0.05)
    if name == "poison" or (name == "unlucky" and begun == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return name.upper()


def page_faults(item, tell):
    """Count the pages that the system gives for blocks of 2 MiB, taken and freed one after the other."""
    block = b"x" * 2**21
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(item):
        bytearray(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
