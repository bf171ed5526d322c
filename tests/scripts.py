"""Scripts of ours, run in the process of the tests, which has PyTorch and MONAI loaded already: seconds for each."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path

import pytest
import torch


def run_here(script: Path, *arguments: object) -> None:
    """Run a script as ``python SCRIPT ...`` would: from its own folder's modules, with its own arguments and warnings."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.syspath_prepend(str(script.parent))
        patch.setattr("sys.argv", [str(script), *map(str, arguments)])
        warnings.simplefilter("default")
        try:
            runpy.run_path(str(script), run_name="__main__")
        finally:
            torch.set_num_threads(threads)
