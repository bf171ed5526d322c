"""What an error of the command line looks like."""

from __future__ import annotations


def one_line(text):
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text
