"""What is pushed to a listener, and what a node has stored."""

from __future__ import annotations

from io import BytesIO

import pydicom

from qdm_med.pacs.send import send_folder


def stored(archive):
    """Data sets that a node was given, in the order of their arrival."""
    head = b"\0" * 128 + b"DICM\2\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"
    return [pydicom.dcmread(BytesIO(head + content)) for content in archive.files]


def push(listener, folder):
    """Send a folder to a listener as CT1 does."""
    return send_folder(folder, listener.node, title="CT1")
