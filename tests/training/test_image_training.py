"""Image networks trained here: they learn, resume to the same bytes, and are what spandrel reads."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qdm_med.checkpoints.file import read_tensors
from qdm_med.checkpoints.image_model import ImageModelCard, read_image_card
from qdm_med.data.store.slices import SliceStore, anonymous_key
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.evaluation.methods.image_model import load_image_model
from qdm_med.intensity import CompandedRange, HuWindow
from qdm_med.models.compared.image_network import ImageNetwork, ImageNetworkConfig
from qdm_med.resample import bicubic
from qdm_med.training.experiment import ExperimentConfig
from qdm_med.training.image import ImageTask, ImageTrainingConfig
from qdm_med.training.log import LOG_FILE
from qdm_med.training.loop import CHECKPOINT_FILE, LoopConfig, Trainer
from qdm_med.training.runs import Start, run_image_network
from qdm_med.training.state import STATE_FILE
from qdm_med.training.task import Run, Share

pytest.importorskip("spandrel", reason="spandrel is an extra")
pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # from within SwinIR, where spandrel builds it

CPU = torch.device("cpu")
SHAPES = {
    "rrdb": ImageNetworkConfig("rrdb", features=8, blocks=1),
    "swinir": ImageNetworkConfig("swinir", features=8, blocks=1, layers=2, heads=2, window=4),
}
CONFIG = ExperimentConfig(
    name="tiny-image",
    loop=LoopConfig(steps=6, batch=2, learning_rate=3e-3, warmup=1, log_every=1, save_every=3, validate_every=6),
    image_network=SHAPES["rrdb"],
    image_training=ImageTrainingConfig(crops=(64, 32), crop_weights=(0.5, 0.5), validation_slices=1),
    scales=(4,),
    steps=(1,),
)


def train(config, store, folder, *, resume=False):
    run_image_network(
        config,
        Start(store, folder, device="cpu", resume=resume, report=lambda line: None),
        config.image_network.architecture,
    )


@pytest.fixture(scope="module", params=SHAPES)
def trained(request, store, tmp_path_factory):
    """Run folder of a trained network."""
    folder = tmp_path_factory.mktemp(request.param)
    train(replace(CONFIG, image_network=SHAPES[request.param]), store, folder)
    return folder


def task_of(config, store):
    card = ImageModelCard(config.name, config.image_network, config.scales[0], config.intensity)
    return ImageTask(card, config.image_training, Run(SliceStore.open(store), config.loop.batch, config.loop.seed, CPU))


@pytest.mark.parametrize("architecture", SHAPES)
@pytest.mark.parametrize("scale", [4, 8])
def test_an_untrained_network_over_bicubic_is_bicubic(architecture, scale):
    low_res = torch.rand(1, 1, 8, 12, generator=torch.Generator().manual_seed(0)) * 0.8 - 0.4
    with torch.no_grad():
        answer = ImageNetwork(SHAPES[architecture], scale)(low_res)
    torch.testing.assert_close(answer, bicubic(low_res, scale), atol=1e-6, rtol=0)


def test_an_untrained_network_without_bicubic_answers_for_itself():
    torch.manual_seed(0)
    low_res = torch.full((1, 1, 8, 8), 0.5)
    answer = ImageNetwork(replace(SHAPES["rrdb"], over_bicubic=False), 4)(low_res)
    assert (answer - 0.5).abs().mean() > 0.1


@pytest.mark.parametrize("architecture", SHAPES)
def test_the_loss_of_a_batch_falls(store, architecture):
    task = task_of(replace(CONFIG, image_network=SHAPES[architecture]), store)
    batch = task.batch(task.draw(0, Share(0, 1)))
    optimiser = torch.optim.Adam(task.players["loss"].parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        losses.append(task.objective(batch)["loss"])
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]


def test_every_term_has_its_weight(store):
    training = replace(CONFIG.image_training, mse_weight=2.0, l1_weight=3.0)
    task = task_of(replace(CONFIG, image_training=training), store)
    losses = task.objective(task.batch(task.draw(0, Share(0, 1))))
    torch.testing.assert_close(losses["loss"], 2 * losses["mse"] + 3 * losses["l1"])


@pytest.mark.parametrize("killed_at", [2, 4])
def test_a_killed_and_resumed_run_ends_with_the_same_bytes(trained, store, tmp_path, monkeypatch, killed_at):
    class Killed(BaseException):
        """Not an Exception: nothing on the way may catch it, as nothing catches kill -9."""

    original = Trainer._train_step

    def dying(self, network):
        if self.step == killed_at:
            raise Killed
        return original(self, network)

    config = replace(CONFIG, image_network=read_image_card(trained / CHECKPOINT_FILE).network)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "_train_step", dying)
        train(config, store, tmp_path)
    train(config, store, tmp_path, resume=True)
    for file in (CHECKPOINT_FILE, STATE_FILE):
        whole, resumed = read_tensors(trained / file)[0], read_tensors(tmp_path / file)[0]
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_file_says_what_it_is_and_whom_it_saw(trained, store):
    card = read_image_card(trained / CHECKPOINT_FILE)
    assert (card.name, card.scale, card.intensity) == ("tiny-image", 4, CompandedRange())
    assert card.network in SHAPES.values()
    assert card.training["patient_keys"] == sorted(anonymous_key(f"patient {number}") for number in range(3))
    assert (card.training["task"], card.training["step"]) == ("image", 6)
    assert card.training["validation"].keys() == {"psnr_x4", "bicubic_x4"}
    assert card.training["hours"] >= 0


def test_plain_spandrel_and_eval_give_the_answer_that_was_validated(trained, store, tmp_path):
    from spandrel import ModelLoader

    path = trained / CHECKPOINT_FILE
    hu = SliceStore.open(store).hu(3)[:48, :40].astype(np.float32)  # wholly 12 x 10 and no multiple of the window
    unit = torch.from_numpy(CompandedRange().to_unit(hu))[None, None]
    card = read_image_card(path)
    network = ImageNetwork(card.network, card.scale).eval()
    network.network.load_state_dict(load_file(path))
    descriptor = ModelLoader(device="cpu").load_from_file(path)
    assert (descriptor.scale, descriptor.input_channels) == (4, 1)
    with torch.no_grad():
        expected = network(unit)
        image = (unit + 1) / 2
        plain = descriptor.model.eval()(image) + bicubic(image, 4)
    assert (expected - bicubic(unit, 4)).abs().max() > 1e-4, "six steps leave a trace, or this test shows nothing"
    torch.testing.assert_close(2 * plain - 1, expected, atol=1e-5, rtol=0)

    method = load_image_model(path, 4, HuWindow(), CPU)
    assert method.name == "tiny-image"
    restored = method.restore(hu, 4)  # in the range of its training, not in the one of the model under test
    np.testing.assert_allclose(restored.hu, CompandedRange().to_hu(expected[0, 0].clamp(-1, 1).numpy()), atol=0.1)
    assert "macs" not in restored.cost
    counted = load_image_model(path, 4, HuWindow(), CPU, counted=True)
    assert counted.restore(hu, 4).cost["macs"] > hu.size * 16 * 8


def test_a_damaged_file_and_one_of_a_newer_version_are_refused(trained, tmp_path):
    tensors, metadata = read_tensors(trained / CHECKPOINT_FILE)
    damaged, newer, foreign = (tmp_path / f"{name}.safetensors" for name in ("damaged", "newer", "foreign"))
    first = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    save_file(tensors | {first: tensors[first] + 1}, damaged, metadata)
    card = json.loads(metadata["card"]) | {"colour": "green"}
    save_file(tensors, newer, metadata | {"card": json.dumps(card)})
    save_file(tensors, foreign)
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors: the weights do not match their hash"):
        load_image_model(damaged, 4, CompandedRange(), CPU)
    with pytest.raises(CheckpointError, match=r"newer\.safetensors: its card cannot be read .*colour"):
        load_image_model(newer, 4, CompandedRange(), CPU)
    assert read_image_card(foreign) is None
    assert load_image_model(foreign, 4, CompandedRange(), CPU).name.endswith("(foreign.safetensors)")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (replace(CONFIG, image_network=None), "has no section image_network, not rrdb"),
        (replace(CONFIG, image_network=SHAPES["swinir"]), "describes swinir, not rrdb"),
        (replace(CONFIG, scales=(4, 8), steps=(1, 1)), "has one scale, experiment tiny-image has 2"),
        (replace(CONFIG, scales=(12,), image_training=ImageTrainingConfig(crops=(48,))), "x12 is no power of 2"),
        (replace(CONFIG, image_training=ImageTrainingConfig(crops=(32,), perceptual_weight=1.0)), "--lpips-backbone"),
        (replace(CONFIG, image_training=ImageTrainingConfig(crops=(128,))), "crop 128 is larger"),
    ],
)
def test_an_experiment_that_is_not_of_this_network_is_refused_before_anything_is_written(store, tmp_path, config, said):
    with pytest.raises(ConfigError, match=said):
        run_image_network(config, Start(store, tmp_path / "run", device="cpu"), "rrdb")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"features": 0}, "features must be at least 1"),
        ({"architecture": "swinir", "features": 10, "heads": 4}, "divisible by heads 4"),
        ({"architecture": "swinir", "window": 7}, "window 7 marks"),
    ],
)
def test_shapes_that_cannot_be_are_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        replace(ImageNetworkConfig(features=12, heads=3), **values)


@pytest.mark.parametrize("weights", [{"mse_weight": 0.0}, {"l1_weight": -1.0}])
def test_losses_that_teach_nothing_are_refused(weights):
    with pytest.raises(ConfigError, match="mse_weight, l1_weight, perceptual_weight"):
        ImageTrainingConfig(**weights)


@pytest.mark.parametrize(("architecture", "library"), [("rrdb", "ESRGAN"), ("swinir", "SwinIR")])
def test_without_spandrel_the_extra_is_named(monkeypatch, architecture, library):
    monkeypatch.setitem(sys.modules, f"spandrel.architectures.{library}", None)
    with pytest.raises(ConfigError, match=r"install qdm-med\[compare\]"):
        ImageNetwork(SHAPES[architecture], 4)


def test_losses_are_logged_by_name(trained):
    lines = [json.loads(line) for line in (trained / LOG_FILE).read_text().splitlines()]
    assert all({"loss", "mse", "l1"} <= line.keys() for line in lines if "validation" not in line)
