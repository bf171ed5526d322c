"""``qdm-med send`` and ``qdm-med listen`` on the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_send_says_how_many_instances_are_stored_where(run, archive, series):
    peer = archive()
    code, out, err = run("send", series, "--to", peer.node, "--title", "ME")
    assert (code, out, err) == (0, f"3 instances stored by {peer.node}\n", "")
    assert set(peer.callers) == {"ME"}


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("nonsense", "neither TITLE@HOST:PORT nor a URL"),
        ("ARCHIVE@127.0.0.1:1", "cannot be reached"),
        ("ARCHIVE@no-such-host.invalid:104", "cannot be reached"),
        ("http://127.0.0.1:1/dicom-web", "cannot be reached"),
    ],
)
def test_a_wrong_destination_is_one_line_and_exit_one(run, series, to, told):
    code, out, err = run("send", series, "--to", to)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert told in err
    assert to.split("/")[0] in err


def test_a_failed_status_is_one_line_and_exit_one(run, archive, series):
    code, _, err = run("send", series, "--to", archive(status=0xA700).node)
    assert (code, err.count("\n")) == (1, 1)
    assert "0xA700" in err


TO_A = ("--allow", "CT1@127.0.0.1", "--to", "A@127.0.0.1:104")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--allow", "CT1", "--to", "A@127.0.0.1:104"), "caller 'CT1' is not TITLE@HOST"),
        (("--allow", "CT1@127.0.0.1", "--to", "A"), "destination 'A'"),
        (("--allow", "CT1@127.0.0.1", "--to", "A@127.0.0.1:104", "--title", "x" * 17), "application entity title"),
        (("--allow", "CT1@127.0.0.1", "--to", "A@127.0.0.1:104", "--scale", 3), "x3"),
        (("--allow", "CT1@127.0.0.1", "--to", "A@127.0.0.1:104", "--host", "192.0.2.1"), "cannot listen there"),
        ((*TO_A, "--matrix", 1024, "--spacing", 0.4), "either --matrix or --spacing"),
        ((*TO_A, "--spacing", 0), "more than 0"),
        ((*TO_A, "--matrix", 1024, "--uncertainty"), "at least 2 samples"),
    ],
)
def test_a_listener_that_cannot_start_is_one_line_and_exit_one(run, checkpoint, tmp_path, arguments, told):
    code, _, err = run("listen", "--spool", tmp_path / "spool", "--checkpoint", checkpoint, *arguments)
    assert (code, err.count("\n")) == (1, 1)
    assert told in err


def test_a_listener_without_callers_is_wrong_usage(run, tmp_path):
    assert run("listen", "--spool", tmp_path / "spool", "--to", "A@127.0.0.1:104")[0] == 2


@pytest.mark.parametrize("missing", ["pynetdicom", "dicomweb_client"])
def test_a_missing_extra_is_one_line_that_names_it(series, missing):
    program = (
        f"import sys; sys.modules['{missing}'] = None; sys.argv = ['qdm-med', 'send', {str(series)!r}, '--to', 'A@b:1']\n"
        "from qdm_med.cli import app; app.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "pip install 'qdm-med[pacs]'" in done.stderr
