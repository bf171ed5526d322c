"""``qdm-med listen`` takes what ``upscale`` takes, as far as it makes sense for series that others push."""

from __future__ import annotations

import inspect

from qdm_med.cli.listen import listen
from qdm_med.cli.upscale import upscale

FOR_ONE_SOURCE = {
    *(
        "context",
        "series",
        "out",
        "report",
        "dry_run",
        "explain_quadtree",
        "series_uid",
        "series_number",
        "description",
    ),
    *(
        "overwrite",
        "force",
        "skip_bad",
        "axis",
        "as_json",
        "also",
        "matrix",
        "spacing",
        "hu_offset",
        "rescale_type_is_hu",
    ),
}
"""Options that speak of one source or of one output."""
NOT_YET = {"uncertainty", "noise_factor", "max_memory", "fwhm", "fusion"}


def test_every_option_of_upscale_that_serves_a_listener_is_there_with_the_same_default():
    ours, theirs = inspect.signature(listen).parameters, inspect.signature(upscale).parameters
    missing = set(theirs) - FOR_ONE_SOURCE - NOT_YET - set(ours)
    assert not missing
    for name in set(ours) & set(theirs):
        assert ours[name].default == theirs[name].default, name
