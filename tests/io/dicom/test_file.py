"""Silence around foreign headers: for every thread that needs it, and for nobody longer than that."""

from __future__ import annotations

import logging
import threading
import warnings

import pydicom.config
import pytest
from pydicom.dataset import Dataset

from qdm_med.io.dicom.file import quiet


def settings() -> tuple[object, ...]:
    levels = [logging.getLogger(name).level for name in ("pydicom", "pynetdicom")]
    return (pydicom.config.settings.reading_validation_mode, list(warnings.filters), *levels)


def provoke() -> None:
    """Set a value that pydicom would warn of, with the value in its words."""
    Dataset().PatientBirthDate = "SECRET"


def test_outside_pydicom_would_have_told_the_value():
    with pytest.raises(UserWarning, match="SECRET"):
        provoke()


def test_inside_nothing_is_told_and_afterwards_all_is_as_it_was():
    before = settings()
    with quiet():
        provoke()
        with quiet():
            provoke()
        provoke()
        assert settings() != before
    assert settings() == before
    with pytest.raises(ZeroDivisionError), quiet():
        raise ZeroDivisionError
    assert settings() == before


def test_silence_lasts_until_the_last_thread_has_left():
    before, failures = settings(), []
    first_is_out, second_is_in = threading.Event(), threading.Event()

    def second():
        with quiet():
            second_is_in.set()
            first_is_out.wait(5)
            try:
                provoke()
            except UserWarning as warning:
                failures.append(warning)

    thread = threading.Thread(target=second)
    with quiet():
        thread.start()
        second_is_in.wait(5)
    first_is_out.set()
    thread.join()
    assert failures == []
    assert settings() == before
