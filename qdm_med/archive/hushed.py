"""Preloaded by workers of this machine: what the event loop complains of while a worker ends is of no use to anybody.

Series that fail and workers that are lost are told by the run itself, in one line each.
"""

from __future__ import annotations

import logging

for name in ("tornado", "tornado.application"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
