"""Several methods trained at equal processor time, and one table of them all."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count

import pytest
import torch
from PIL import Image

from qdm_med.checkpoints.model import ModelCard, load_checkpoint, save_checkpoint
from qdm_med.data.degradation.degrade import DEGRADATIONS
from qdm_med.errors import ConfigError
from qdm_med.evaluation.benchmarks import BenchmarkOptions
from qdm_med.evaluation.run import export_benchmark
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.compared.image_network import ImageNetworkConfig
from qdm_med.training import loop
from qdm_med.training.comparison import SHEET_FILE, TABLE_FILE, compare, train_members
from qdm_med.training.experiment import ExperimentConfig, load_config, save_config
from qdm_med.training.image import ImageTrainingConfig
from qdm_med.training.log import LOG_FILE
from qdm_med.training.loop import CHECKPOINT_FILE, LoopConfig
from qdm_med.training.objective import DenoiserTrainingConfig
from qdm_med.training.runs import CONFIG_FILE, Start
from qdm_med.training.trial import TRIAL_STEPS
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER

pytest.importorskip("spandrel", reason="spandrel is an extra")

LOOP = LoopConfig(steps=2, batch=2, learning_rate=1e-3, warmup=1, log_every=1, save_every=2, validate_every=2)
QDM = ExperimentConfig(
    name="ours",
    loop=LOOP,
    denoiser=TINY_DENOISER,
    training=DenoiserTrainingConfig(crops=(32,), validation_slices=1),
    steps=(1, 1),
)
ALONE = replace(
    QDM,
    name="alone",
    denoiser=replace(TINY_DENOISER, upstream=False, noise_everywhere=True),
    training=replace(QDM.training, thresholds=(0.0,), upstream_weight=0.0),
    threshold=0.0,
)
IMAGE = ExperimentConfig(
    name="image-x4",
    loop=LOOP,
    image_network=ImageNetworkConfig("rrdb", features=4, blocks=1),
    image_training=ImageTrainingConfig(crops=(32,), validation_slices=1),
    scales=(4,),
    steps=(1,),
)


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vae") / "vae.safetensors"
    save_checkpoint(path, ModelCard("vae", TINY_AUTOENCODER), KlVae(TINY_AUTOENCODER))
    return path


def written(folder, members, minutes=0.0):
    for _, config in members:
        save_config(config, folder / f"{config.name}.yaml")
    lines = [f"  - {{model: {model}, config: {config.name}.yaml}}" for model, config in members]
    path = folder / "comparison.yaml"
    path.write_text("\n".join([f"minutes: {minutes}", "members:", *lines]) + "\n")
    return path


def start(store, folder, told=None):
    return Start(store, folder, device="cpu", report=(told.append if told is not None else lambda line: None))


def test_one_call_trains_all_and_makes_one_table_of_both_scales(store, vae, tmp_path):
    path = written(tmp_path, [("qdm", QDM), ("qdm", ALONE), ("rrdb", IMAGE)])
    begin = start(store, tmp_path / "out")
    options = BenchmarkOptions("med-sr4", methods=("bicubic", "qdm"), fidelity=False)
    trained = train_members(path, begin, vae)
    assert [(one.name, one.scales) for one in trained] == [("ours", (4, 8)), ("alone", (4, 8)), ("image-x4", (4,))]
    assert all(one.facts.cpu_minutes > 0 for one in trained)
    text = compare(trained, begin, options)
    assert (tmp_path / "out" / TABLE_FILE).read_text() == text
    head, _, *rows = [line.strip("| ").split(" | ") for line in text.split("\n\n")[1].splitlines()]
    assert [(row[0], row[1].split(",")[0]) for row in rows] == [
        *(("x4", name) for name in ("bicubic", "ours", "alone", "image-x4")),
        *(("x8", name) for name in ("bicubic", "ours", "alone")),
    ]
    for wanted in (
        "CPU min trained",
        "s a slice",
        "GMAC a slice",
        "psnr_db",
        "hu_psnr_db",
        "paper_ssim",
        "bone_mae_hu",
    ):
        assert wanted in head
    ours = dict(zip(head, rows[1], strict=True))
    assert float(ours["CPU min trained"]) == pytest.approx(trained[0].facts.cpu_minutes, abs=0.06)
    assert ours["training steps"] == "2"
    for said in (
        "- med-sr4, val split: ",
        "- med-sr8, val split: ",
        "psnr_db, ssim: network range [-1, 1] (companded, -1024 to 3071 HU), data range 2",
        "hu_psnr_db, hu_ssim: HU, clipped to -1024 to 3071, data range 4095",
        "paper_psnr_db, paper_ssim: paper: window -160 to 240 HU in 8 bits, data range 255",
    ):
        assert said in text
    assert float(ours["GMAC a slice"]) >= 0
    assert "x4: ours leads in " in text
    assert "x8: ours leads in " in text


def test_facts_of_a_run_are_those_of_its_log_card_and_configuration(store, vae, tmp_path):
    longer = replace(QDM, loop=replace(LOOP, steps=4))
    ours, cnn = train_members(
        written(tmp_path, [("qdm", longer), ("rrdb", IMAGE)]), start(store, tmp_path / "out"), vae
    )
    lines = [json.loads(line) for line in (tmp_path / "out" / "ours" / LOG_FILE).read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert ours.facts.still_falling == pytest.approx(1 - losses[3] / losses[2])
    assert ours.facts.steps == lines[-1]["step"] == 4
    assert ours.facts.cpu_minutes == pytest.approx(lines[-1]["cpu_minutes"], abs=1e-4)
    denoiser = load_checkpoint(ours.checkpoint).denoiser
    assert ours.facts.parameters == sum(one.numel() for one in denoiser.parameters())
    assert (ours.facts.loss, cnn.facts.loss) == ("downstream 1 + upstream 1", "mse 1")
    assert cnn.facts.still_falling is None  # two steps have no quarters


def test_networks_trained_elsewhere_stand_in_the_table_of_their_scale(store, vae, tmp_path):
    esrgan = pytest.importorskip("spandrel.architectures.ESRGAN")
    torch.manual_seed(0)
    network = esrgan.ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=4)
    torch.save(network.state_dict(), tmp_path / "bsrgan.pth")
    begin = start(store, tmp_path / "out")
    trained = train_members(written(tmp_path, [("qdm", QDM)]), begin, vae)
    options = BenchmarkOptions("med-sr4", methods=("bicubic",), image_models=(tmp_path / "bsrgan.pth",), fidelity=False)
    text = compare(trained, begin, options, sheets=True)
    millions = sum(one.numel() for one in network.parameters()) / 1e6
    assert f"| x4 | ESRGAN (bsrgan.pth) | trained elsewhere |  | {millions:.2f} |" in text
    assert "| x8 | ESRGAN" not in text
    with Image.open(tmp_path / "out" / "med-sr4" / SHEET_FILE) as sheet:
        assert sheet.format == "PNG"
    with pytest.raises(ConfigError, match="two members are called alike"):
        compare(trained, begin, replace(options, image_models=options.image_models * 2))


def test_results_of_a_program_stand_in_the_table_of_their_benchmark(store, vae, tmp_path):
    begin = start(store, tmp_path / "out")
    trained = train_members(written(tmp_path, [("qdm", QDM)]), begin, vae)
    options = BenchmarkOptions("med-sr4", methods=("bicubic",), fidelity=False)
    export_benchmark(store, load_checkpoint(trained[0].checkpoint), options, tmp_path / "inputs")
    (tmp_path / "theirs" / "med-sr4").mkdir(parents=True)
    for path in (tmp_path / "inputs" / "png").iterdir():
        with Image.open(path) as image:
            image.resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "theirs" / "med-sr4" / path.name)
    text = compare(trained, begin, replace(options, results=(("theirs", tmp_path / "theirs"),)))
    assert "| x4 | theirs |  |  |  | n/a |" in text
    assert "| x8 | theirs |" not in text
    with pytest.raises(ConfigError, match="holds none of med-sr4, med-sr8"):
        compare(trained, begin, replace(options, results=(("none", tmp_path),)))


@pytest.mark.parametrize("degradation", ["clinical", "scanner"])
def test_networks_are_trained_on_the_degradation_that_they_are_scored_with(store, vae, tmp_path, degradation):
    begin = start(store, tmp_path / "out")
    path = written(tmp_path, [("qdm", QDM), ("rrdb", IMAGE)])
    trained = train_members(path, begin, vae, degradation=degradation)
    for name, section in (("ours", "training"), ("image-x4", "image_training")):
        pairs = getattr(load_config(tmp_path / "out" / name / CONFIG_FILE), section)
        assert {pairs.degradation_at(place) for place in (0.0, 0.5, 0.999)} == {DEGRADATIONS[degradation]}
    options = BenchmarkOptions("med-sr4", methods=("bicubic",), degradation=degradation, fidelity=False)
    compare(trained, begin, options)
    (line, *_) = (tmp_path / "out" / "med-sr8" / "cases.jsonl").read_text().splitlines()
    assert json.loads(line)["degradation"]["kind"] == degradation


def test_what_is_trained_is_not_trained_again(store, vae, tmp_path):
    path = written(tmp_path, [("qdm", QDM)])
    train_members(path, start(store, tmp_path / "out"), vae)
    before = load_checkpoint(tmp_path / "out" / "ours" / CHECKPOINT_FILE).sha256
    told = []
    train_members(path, start(store, tmp_path / "out", told), vae)
    assert "nothing to do" in told[-1]
    assert load_checkpoint(tmp_path / "out" / "ours" / CHECKPOINT_FILE).sha256 == before


def test_steps_follow_from_the_minutes_and_are_kept_by_a_run_that_was_begun(store, vae, tmp_path, monkeypatch):
    ticks = count()
    monkeypatch.setattr(loop.time, "process_time", lambda: 0.6 * next(ticks))  # 0.6 s a step
    path = written(tmp_path, [("qdm", QDM)], minutes=0.04)  # 2.4 s: four steps
    told = []
    (trained,) = train_members(path, start(store, tmp_path / "out", told), vae)
    config = load_config(tmp_path / "out" / "ours" / "config.yaml")
    assert (config.loop.steps, config.loop.cpu_minutes) == (4, 0.04)
    assert told[0] == "ours: 0.60 CPU s a step, so 4 steps in 0.04 CPU min"
    assert trained.facts.cpu_minutes == pytest.approx(0.04)
    assert next(ticks) >= 2 * (1 + TRIAL_STEPS + 4)
    again = []
    train_members(path, start(store, tmp_path / "out", again), vae)
    assert not any("CPU s a step" in line for line in again)


@pytest.mark.parametrize(
    ("members", "minutes", "said"),
    [
        ([("rrdb", IMAGE), ("qdm", QDM)], 0.0, "members must begin with the network under test"),
        ([("qdm", QDM), ("qdm", QDM)], 0.0, "two members are called alike"),
        ([("qdm", QDM)], -1.0, "minutes must not be negative"),
        ([("qdm", IMAGE)], 0.0, "has no denoiser"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused(store, vae, tmp_path, members, minutes, said):
    with pytest.raises(ConfigError, match=said):
        train_members(written(tmp_path, members, minutes), start(store, tmp_path / "out"), vae)
