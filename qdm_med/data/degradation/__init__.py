"""Degradations: high-resolution images to the low-resolution images of a worse scanner."""
