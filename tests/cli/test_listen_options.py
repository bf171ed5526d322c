"""``listen`` and ``archive`` take what ``upscale`` takes, as far as it makes sense for series that nobody names."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

from qdm_med.cli import archive
from qdm_med.cli.listen import listen
from qdm_med.cli.upscale import upscale
from qdm_med.inference.options import UpscaleOptions
from qdm_med.io.options import WriterOptions

FOR_ONE_SOURCE = {
    *("series", "out", "report", "dry_run", "explain_quadtree", "series_uid", "series_number", "description"),
    *("overwrite", "axis", "as_json", "also", "hu_offset"),
}
"""Options that speak of one source or of one output."""


def parameters(command):
    return inspect.signature(command).parameters


@pytest.mark.parametrize("command", [listen, archive.run])
def test_every_option_of_upscale_that_serves_many_series_is_there_with_the_same_default(command):
    ours, theirs = parameters(command), parameters(upscale)
    assert set(theirs) - FOR_ONE_SOURCE - set(ours) == set()
    for name in set(ours) & set(theirs) - {"out"}:
        assert ours[name].default == theirs[name].default, name


def test_plan_takes_what_run_takes_but_for_how_files_are_written():
    ours, theirs = parameters(archive.plan), parameters(archive.run)
    of_run = {"cluster", "workers", "threads", "slurm", "dashboard", "rescan"}
    assert set(theirs) - set(ours) == of_run | {"private", "equipment", "transfer_syntax"}
    assert {name: each.default for name, each in ours.items()} == {name: theirs[name].default for name in ours}


@pytest.mark.parametrize("command", [upscale, listen, archive.run])
def test_defaults_of_a_command_are_those_of_the_dataclass_that_it_fills(command):
    # A field that no command knows is one that nobody can ask for.
    given = parameters(command)
    for one in fields(UpscaleOptions):
        if one.name != "batch_leaves":  # which pixels do not depend on
            assert given[one.name].default == one.default, one.name
    for one in fields(WriterOptions):
        if one.name in given and one.name != "matrix":
            assert given[one.name].default == one.default, one.name
