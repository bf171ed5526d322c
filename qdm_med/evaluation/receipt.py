"""Receipt and summary of a run, and the record from which the benchmark is made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from qdm_med._version import __version__
from qdm_med.checkpoints.model import Checkpoint, read_card
from qdm_med.data.degradation.degrade import DEGRADATIONS
from qdm_med.data.store.slices import SliceStore
from qdm_med.evaluation.benchmarks import BenchmarkOptions
from qdm_med.evaluation.measures.perceptual import Lpips
from qdm_med.evaluation.methods.method import Method
from qdm_med.evaluation.methods.recorded import Recorded
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.selection import Selection, store_sha256
from qdm_med.evaluation.tables.statistics import agreements, differences, summarise
from qdm_med.files import write_text
from qdm_med.inference.options import DEFAULT_CONSISTENCY
from qdm_med.intensity import IntensityMap
from qdm_med.serialise import to_mapping

BASELINE = "bicubic"
"""Paired differences are taken to it."""


def receipt(
    store: SliceStore,
    selection: Selection,
    checkpoint: Checkpoint,
    options: BenchmarkOptions,
    methods: Sequence[Method],
    perceptual: Lpips | None,
) -> dict[str, Any]:
    """Record everything that makes rows of two runs comparable, in JSON types."""
    programs = {method.name: method.sha256 for method in methods if isinstance(method, Recorded)}
    weights = [hashlib.sha256(path.read_bytes()).hexdigest() for path in options.image_models]
    return {
        "qdm_med": __version__,
        "torch": torch.__version__,
        **asdict(options),
        "consistency": list(options.consistency or (DEFAULT_CONSISTENCY[checkpoint.card.purpose],)),
        "latent_models": [read_card(path)[1] for path in options.latent_models],
        "image_models": weights,
        "results": programs,
        "methods": len(methods),
        "method_names": [method.name for method in methods],
        "model": checkpoint.card.name,
        "model_sha256": checkpoint.sha256,
        "lpips": f"{perceptual.column} {perceptual.sha256}" if perceptual else None,
        "store_sha256": store_sha256(store),
        "split_rule": store.split_rule,
        "slices": hashlib.sha256(",".join(map(str, selection.indices)).encode()).hexdigest(),
        "patients": selection.note,
        "intensity": to_mapping(options.degraded_in(checkpoint.card.intensity)),
        "degradation": to_mapping(DEGRADATIONS[options.degradation]),
    }


def save_results(out: Path, rows: Sequence[SliceScore], options: BenchmarkOptions, intensity: IntensityMap) -> None:
    """Write the sums over the cases (``summary.json``) and the record to make the benchmark again (``benchmark.json``)."""
    paired = differences(rows, BASELINE) if any(row.method == BASELINE for row in rows) else []
    summary = {
        "methods": [asdict(one) for one in summarise(rows)],
        f"differences_to_{BASELINE}": [asdict(one) for one in summarise(paired)],
        "bland_altman": [
            {"method": method, "tissue": tissue, **asdict(one)} for (method, tissue), one in agreements(rows).items()
        ],
    }
    write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_text(out / "benchmark.json", json.dumps(manifest(rows, options, intensity), indent=1) + "\n")


def manifest(rows: Sequence[SliceScore], options: BenchmarkOptions, intensity: IntensityMap) -> dict[str, Any]:
    """List every case of a benchmark with its parameters; :func:`qdm_med.evaluation.cases.manifest_cases` reads it."""
    cases = {
        row.sha256: {
            "sha256": row.sha256,
            "patient": row.patient,
            "low_sha256": row.low_sha256,
            "degradation": row.degradation,
        }
        for row in rows
    }
    return {
        "benchmark": options.benchmark,
        "qdm_med": __version__,
        "intensity": to_mapping(options.degraded_in(intensity)),
        "cases": list(cases.values()),
    }
