"""``qdm-med train-vae`` and ``qdm-med train``: train the networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from qdm_med.cli import options as opt
from qdm_med.cli.data import data_or_phantoms
from qdm_med.cli.progress import CountProgress
from qdm_med.cli.talk import TALK

TINY_VAE = Path(__file__).parent.parent / "training" / "smoke_vae.yaml"
"""An experiment of every part of a run, and of a minute."""
Data = Annotated[
    Path, typer.Option(help="Slice store made by `qdm-med prepare`; of photographs a folder with train and val.")
]
Config = Annotated[Path, typer.Option(help="Experiment, a YAML file such as those of configs/.")]
Out = Annotated[Path, typer.Option(help="Run folder: log, state, checkpoint, resolved configuration.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run that the folder holds.")]
ModelName = Literal["qdm", "resshift", "ldm", "rrdb", "swinir"]

LpipsBackbone = Annotated[
    Path | None, typer.Option(help="SqueezeNet 1.1 features (.npz, .safetensors) for the perceptual term.")
]
Workers = Annotated[
    int,
    typer.Option(
        min=0,
        help="Processes that draw batches ahead of their step, which a GPU needs; they change no result. 0: none.",
    ),
]


def train_vae(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Option(help="As for train. Default: ./store, else built-in phantoms for a smoke test.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Experiment, as for train. Default: a tiny one, of a minute.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder, as for train.")] = Path("runs/vae"),
    device: opt.Device = "auto",
    resume: Resume = False,
    lpips_backbone: LpipsBackbone = None,
    workers: Workers = 0,
) -> None:
    """Train the autoencoder that the diffusion works in."""
    from qdm_med.natural.experiment import NaturalExperiment, load_experiment, run_vqgan
    from qdm_med.training.runs import Start, run_vae

    store = context.with_resource(data_or_phantoms(data))
    experiment = load_experiment(config or TINY_VAE)
    with _steps() as steps:
        start = Start(store, out, device, resume, steps.say, lpips_backbone, steps.update, workers)
        if isinstance(experiment, NaturalExperiment):
            run_vqgan(experiment, start)
        else:
            run_vae(experiment, start)


def train(
    data: Data,
    config: Config,
    out: Out,
    vae: Annotated[
        Path | None, typer.Option(help="Checkpoint with the trained autoencoder; for qdm, resshift, ldm.")
    ] = None,
    model: Annotated[
        ModelName,
        typer.Option(help="qdm, or a method to compare it with: rrdb and swinir are image networks, of one scale."),
    ] = "qdm",
    device: opt.Device = "auto",
    resume: Resume = False,
    lpips_backbone: LpipsBackbone = None,
    init: Annotated[
        Path | None, typer.Option(help="Checkpoint whose denoiser the run starts from. Default: random weights.")
    ] = None,
    workers: Workers = 0,
) -> None:
    """Train the two-stream denoiser in the latent space of a trained autoencoder, or a network to compare it with."""
    from qdm_med.natural.experiment import NaturalExperiment, load_experiment, run_natural
    from qdm_med.training.runs import Start, run_denoiser, run_image_network

    experiment = load_experiment(config)
    with _steps() as steps:
        start = Start(data, out, device, resume, steps.say, lpips_backbone, steps.update, workers)
        if isinstance(experiment, NaturalExperiment):
            if model != "qdm" or vae is None:
                raise typer.BadParameter("on photographs qdm alone is trained; give --vae, the checkpoint of a VQGAN")
            run_natural(experiment, start, vae, initial=init)
        elif model == "rrdb" or model == "swinir":
            if vae or init:
                raise typer.BadParameter(f"--model {model} works without an autoencoder; leave --vae and --init out")
            run_image_network(experiment, start, model)
        elif vae is None:
            raise typer.BadParameter(f"--model {model} works in latents; give --vae, the checkpoint of an autoencoder")
        else:
            run_denoiser(experiment, start, vae, initial=init, model=model)


def _steps() -> CountProgress:
    TALK.resume = "start the same command again with --resume; it goes on from the last saved state"
    return CountProgress("steps")
