"""Preload of this machine's workers, which silences their event loop while they end: its complaints then help nobody.

Series that fail and workers that are lost are told by the run itself, in one line each.
"""

from __future__ import annotations

import logging

for name in ("tornado", "tornado.application"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
