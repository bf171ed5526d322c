"""Addresses: what is taken, and that the rest is refused by name."""

from __future__ import annotations

import pytest

from qdm_med.errors import ConfigError
from qdm_med.pacs.addresses import Node, parse_caller, parse_destination, require_title


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ARCHIVE",
        "ARCHIVE@host",
        "@host:104",
        "A@:104",
        "A@host:x",
        "A@host:0",
        "A@host:65536",
        "A@host:-1",
        "http://",
    ],
)
def test_what_is_no_destination_is_refused_by_name(text):
    with pytest.raises(ConfigError, match=r"destination|application entity title"):
        parse_destination(text)


def test_a_password_in_a_url_is_refused_without_being_repeated():
    with pytest.raises(ConfigError, match=r"netrc") as caught:
        parse_destination("https://user:hunter2@pacs.example/dicom-web")
    assert "hunter2" not in str(caught.value)


def test_a_title_may_hold_blanks_and_at_signs():
    assert parse_destination("CT ROOM 1@[::1]:104") == Node("CT ROOM 1", "::1", 104)
    assert parse_destination("A@B@host:104") == Node("A@B", "host", 104)


@pytest.mark.parametrize("title", ["", " ", "x" * 17, "A\\B", "Ä", "A\nB"])
def test_what_is_no_title_is_refused(title):
    with pytest.raises(ConfigError, match="application entity title"):
        require_title(title)


def test_a_caller_is_a_title_and_a_machine_that_can_be_found():
    assert parse_caller("CT1@localhost").addresses & {"127.0.0.1", "::1"}
    for text in ("CT1", "CT1@", "CT1@no-such-host.invalid"):
        with pytest.raises(ConfigError, match="caller"):
            parse_caller(text)
