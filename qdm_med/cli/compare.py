"""``qdm-med compare``: train several methods at equal processor time and score them in one table."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from qdm_med.cli import options as opt
from qdm_med.cli.lists import named_folder, names
from qdm_med.cli.progress import CountProgress
from qdm_med.cli.train import Workers


def compare(
    comparison: Annotated[
        Path, typer.Argument(help="Which networks, a YAML file such as those of configs/comparisons/.")
    ],
    data: Annotated[Path, typer.Option(help="Slice store made by `qdm-med prepare`.")],
    vae: Annotated[Path, typer.Option(help="Checkpoint with the autoencoder of all latent models.")],
    out: Annotated[Path, typer.Option(help="Folder of all runs and of the table; a killed command resumes there.")],
    minutes: Annotated[
        float | None, typer.Option(help="Processor minutes of each training. Default: the file's; 0: its steps.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split that is scored.")] = "val",
    every: Annotated[int, typer.Option(help="Score every n-th slice only.")] = 1,
    methods: Annotated[
        str, typer.Option(help="Of the first network and interpolation, as for `eval`.")
    ] = "bicubic,lanczos,qdm,faithful",
    results: Annotated[
        list[str] | None,
        typer.Option(help="NAME=DIR: results of another program as for `eval`, in DIR/med-sr4 and DIR/med-sr8."),
    ] = None,
    image_model: Annotated[
        list[Path] | None,
        typer.Option(help="Weights of BSRGAN, SwinIR or another image network, trained elsewhere, as for `eval`."),
    ] = None,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Draw all methods side by side, sheet.png in the folders of the benchmarks.")
    ] = False,
    degradation: Annotated[
        str, typer.Option(help="As for `eval`; clinical and scanner are what the networks are trained on, too.")
    ] = "paper",
    fidelity: Annotated[bool, typer.Option(help="Measure fidelity too, into the folders of the benchmarks.")] = False,
    device: opt.Device = "auto",
    lpips_backbone: Annotated[
        Path | None,
        typer.Option(help="SqueezeNet 1.1 features (.npz, .safetensors): of perceptual terms and of LPIPS."),
    ] = None,
    workers: Workers = 0,
) -> None:
    """Train several methods at equal processor time and make one table of them; what is done is not done again."""
    from qdm_med.evaluation.benchmarks import BenchmarkOptions
    from qdm_med.training.comparison import compare as scored
    from qdm_med.training.comparison import train_members
    from qdm_med.training.runs import Start

    options = BenchmarkOptions(
        "med-sr4",
        split=split,
        every=every,
        methods=names(methods),
        image_models=tuple(image_model or ()),
        results=tuple(map(named_folder, results or ())),
        degradation=degradation,
        fidelity=fidelity,
    )
    with CountProgress("steps") as steps:
        say = partial(steps.say, err=True)
        start = Start(data, out, device, True, say, lpips_backbone, steps.update, workers)
        trained = train_members(comparison, start, vae, minutes, degradation=options.degradation)
        steps.say(scored(trained, start, options, sheets=sheet))
