"""Common ground of the benchmark scripts: ways that alternate in one run, medians, ratios, and JSON."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@torch.no_grad()
def alternating(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Wall times of every way, one call each in turn, after one call that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, work in ways.items():
            taken = seconds(work)
            if repeat:
                times[name].append(taken)
    return times


def against(baseline: str, times: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median seconds of every way and the median of its pairwise ratios to the baseline's."""
    return {
        name: {
            "seconds": statistics.median(taken),
            f"of {baseline}": statistics.median(one / base for one, base in zip(taken, times[baseline], strict=True)),
        }
        for name, taken in times.items()
    }


def line(amounts: Sequence[float], taken: Sequence[float], name: str) -> dict[str, float]:
    """The line through the seconds of all amounts of work, by least squares of the relative residuals."""
    slope, start = np.polyfit(amounts, taken, 1, w=1 / np.array(taken))
    residual = np.abs(slope * np.array(amounts) + start - taken) / taken
    return {name: slope, "start": start, "largest residual": residual.max()}


def arguments(description: str | None, **options: Any) -> argparse.Namespace:
    """Read the command line: the options of a script, and what all have in common."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in options.items():
        if default is None:
            parser.add_argument(name, type=Path)
        else:
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="JSON file")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    return given


def tell(told: Mapping[str, Mapping[str, float]], out: Path | None) -> None:
    """Print a line a measurement, and write all of them with the machine they were made on."""
    for name, figures in told.items():
        print(name.ljust(40), ", ".join(f"{key} {value:.4g}" for key, value in figures.items()), flush=True)
    if out is not None:
        machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
        versions = {"torch": torch.__version__, "python": platform.python_version()}
        out.write_text(json.dumps({"machine": machine, "versions": versions, "figures": told}, indent=2) + "\n")
