"""The whole track in tiny shapes: a VQGAN, a denoiser on it, the second stage, and what the commands make of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from qdm_med.errors import ConfigError, DataError
from qdm_med.models.autoencoder.vq import VqAutoencoder
from qdm_med.natural.checkpoint import NaturalCard, load_natural
from qdm_med.natural.denoiser_training import NaturalTrainingConfig
from qdm_med.natural.experiment import NaturalExperiment
from qdm_med.natural.images import Photo, read_photo
from qdm_med.natural.pairs import degraded_pair
from qdm_med.natural.photos import PhotoStore, centre_crop, shorter_side_to
from qdm_med.natural.vqgan_training import (
    VqganBatch,
    VqganObjective,
    VqganTask,
    VqganTrainingConfig,
    place_codes,
)
from qdm_med.serialise import to_mapping
from qdm_med.training.adversary import PatchAdversary
from qdm_med.training.experiment import read_yaml
from qdm_med.training.loop import LoopConfig, Trainer
from qdm_med.training.task import Run, Share
from tests.natural.conftest import TINY_NATURAL, TINY_VQ

LOOP = LoopConfig(steps=3, batch=2, learning_rate=1e-3, warmup=0, log_every=1, save_every=3, validate_every=3)
EXPERIMENT = NaturalExperiment(
    "natural-tiny",
    loop=LOOP,
    autoencoder=TINY_VQ,
    vqgan=VqganTrainingConfig(
        crop=96,
        perceptual_weight=0.0,
        adversarial_weight=0.1,
        adversarial_start=2,
        discriminator_channels=8,
        discriminator_layers=1,
        quantised_from=1,
        validation_photos=1,
    ),
    denoiser=TINY_NATURAL,
    training=NaturalTrainingConfig(crop=96, decoded_weight=1.0, validation_photos=1),
    steps=2,
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, sizes in (("train", ((120, 150), (90, 130))), ("val", ((110, 100),))):
        (folder / split).mkdir()
        for number, size in enumerate(sizes):
            coarse = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
            image.save(folder / split / f"{number}.png")
    return folder


def test_the_track_trains_end_to_end(run, photos, tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(to_mapping(EXPERIMENT)))
    vae, first, second = (tmp_path / name for name in ("vae", "first", "second"))
    common = ("--data", photos, "--config", config, "--device", "cpu")
    code, told, err = run("train-vae", *common, "--out", vae)
    assert (code, err) == (0, "")
    assert "codes_used" in told
    code, told, err = run("train", *common, "--vae", vae / "checkpoint.safetensors", "--out", first)
    assert (code, err) == (0, "")
    assert {"psnr_x4", "bicubic_psnr_x4"} <= set(told.replace(",", " ").split())
    start = ("--init", first / "checkpoint.safetensors", "--out", second)
    code, _, err = run("train", *common, "--vae", vae / "checkpoint.safetensors", *start)
    assert (code, err) == (0, "")
    checkpoint = load_natural(second / "checkpoint.safetensors")
    assert checkpoint.card.training["initial_sha256"] == load_natural(first / "checkpoint.safetensors").sha256
    assert read_yaml(second / "config.yaml") == to_mapping(EXPERIMENT)
    out = tmp_path / "fine.png"
    made = ("--checkpoint", second / "checkpoint.safetensors", "--out", out)
    code, _, err = run("upscale", "--series", photos / "val" / "0.png", *made)
    assert (code, err) == (0, "")
    assert read_photo(out).size == (440, 400)
    code, told, _ = run("info", out.parent / "second" / "checkpoint.safetensors")
    assert code == 0
    assert "natural-image checkpoint" in told
    code, _, err = run("train", *common, "--vae", vae / "checkpoint.safetensors", "--out", first)
    assert code == 1
    assert "already holds a run" in err


def test_a_resumed_vqgan_is_the_uninterrupted_one(photos, tmp_path):
    def trainer(folder, steps):
        store, device = PhotoStore(photos), torch.device("cpu")
        task = VqganTask(NaturalCard("x", TINY_VQ), EXPERIMENT.vqgan, Run(store, 2, 0, device))
        (tmp_path / folder).mkdir(exist_ok=True)
        return Trainer(task, replace(LOOP, steps=steps), tmp_path / folder)

    trainer("whole", 3).run()
    trainer("cut", 1).run()  # before the codes are placed
    resumed = trainer("cut", 3)
    assert resumed.resume()
    resumed.run()
    whole, cut = (load_natural(tmp_path / name / "checkpoint.safetensors").sha256 for name in ("whole", "cut"))
    assert whole == cut


def test_each_loss_of_the_vqgan_has_a_gradient_in_its_own_player_alone():
    torch.manual_seed(0)
    config = replace(EXPERIMENT.vqgan, perceptual_weight=0.5)
    objective = VqganObjective(
        VqAutoencoder(TINY_VQ), config, PatchAdversary(3, 8, 1), lambda a, b: (a - b).square().flatten(1).mean(dim=1)
    )
    losses = objective(VqganBatch(torch.rand(2, 3, 32, 32) * 2 - 1, adversarial=True))
    terms = losses["codebook"] + 0.25 * losses["commitment"] + losses["l1"] + 0.5 * losses["perceptual"]
    torch.testing.assert_close(losses["loss"], terms + 0.1 * losses["adversarial"])
    ours, theirs = list(objective.autoencoder.parameters()), list(objective.adversary.parameters())
    losses["loss"].backward(retain_graph=True)
    assert all(value.grad is not None for value in ours)
    assert all(value.grad is None for value in theirs)
    losses["discriminator"].backward()
    assert all(value.grad is not None for value in theirs)


def test_codes_are_placed_on_what_the_encoder_says():
    torch.manual_seed(0)
    autoencoder, image = VqAutoencoder(TINY_VQ), torch.rand(2, 3, 32, 32) * 2 - 1
    before = autoencoder.reconstruct(image).quantised
    place_codes(autoencoder, image)
    after = autoencoder.reconstruct(image).quantised
    assert len(after.codes.unique()) > 3 * len(before.codes.unique())
    assert after.codebook < 0.1 * before.codebook
    assert len(autoencoder.quantiser.embedding.weight.unique(dim=0)) == TINY_VQ.codes


def test_a_batch_is_a_function_of_its_step_however_it_is_shared(photos):
    store = PhotoStore(photos)
    task = VqganTask(NaturalCard("x", TINY_VQ), EXPERIMENT.vqgan, Run(store, 4, 0, torch.device("cpu")))
    whole = task.draw(2, Share(0, 1)).image
    assert torch.equal(task.draw(2, Share(1, 2)).image, whole[1::2])
    assert not torch.equal(task.draw(3, Share(0, 1)).image, whole)
    assert whole.shape == (4, 3, 96, 96)


def test_a_photograph_is_degraded_by_its_own_key(photos):
    store = PhotoStore(photos)
    image = centre_crop(store.photo(store.val[0]), 96)
    config = EXPERIMENT.training.degradation
    first, again = (degraded_pair(image, config, scale=4, seed=0) for _ in range(2))
    assert torch.equal(first.low_res, again.low_res)
    assert first.params == again.params
    assert degraded_pair(image, config, scale=4, seed=1).params != first.params
    assert degraded_pair(image.flip(-1), config, scale=4, seed=0).params != first.params


def test_crops_come_from_the_photograph_or_from_all_of_it_made_smaller(tmp_path):
    row, column = np.mgrid[:60, :40]
    pixels = np.stack([row, column, row], axis=2).astype(np.uint8)
    store = object.__new__(PhotoStore)
    store.train = [tmp_path / "ramp.png"]
    store.photo = lambda path: Photo(path, pixels)
    direct = store.crop(np.random.default_rng(1), 20, 0.0)
    steps = torch.diff((direct[0] + 1) * 127.5, dim=0)
    torch.testing.assert_close(steps, torch.ones_like(steps), atol=1e-3, rtol=0)  # its own pixels
    resized = store.crop(np.random.default_rng(1), 20, 1.0)
    steps = torch.diff((resized[0] + 1) * 127.5, dim=0)
    torch.testing.assert_close(steps[2:-2], 2 * torch.ones_like(steps[2:-2]), atol=0.1, rtol=0)
    assert shorter_side_to(torch.from_numpy(Photo(tmp_path, pixels).unit()), 20).shape == (3, 30, 20)


def test_what_cannot_be_trained_is_refused(run, photos, natural_checkpoint, tmp_path):
    with pytest.raises(ConfigError, match="too small to degrade"):
        NaturalTrainingConfig(crop=64)
    with pytest.raises(ConfigError, match="too small for the discriminator"):
        VqganTrainingConfig(crop=16)
    with pytest.raises(DataError, match="needs a folder train"):
        PhotoStore(tmp_path)
    config = tmp_path / "tiny.yaml"
    for denoiser, reason in (
        (None, "has no denoiser"),
        (replace(TINY_NATURAL, condition_channels=1), "condition_channels must be 3"),
        (replace(TINY_NATURAL, latent_channels=2), "latent_channels is 2"),
    ):
        config.write_text(yaml.safe_dump(to_mapping(replace(EXPERIMENT, denoiser=denoiser))))
        common = ("--data", photos, "--config", config, "--vae", natural_checkpoint, "--out", tmp_path / "out")
        code, _, err = run("train", *common)
        assert code == 1
        assert reason in err
    config.write_text(yaml.safe_dump(to_mapping(replace(EXPERIMENT, vqgan=replace(EXPERIMENT.vqgan, crop=104)))))
    code, _, err = run("train-vae", "--data", photos, "--config", config, "--out", tmp_path / "out")
    assert (code, "0.png: has 110x100 pixels, less than 104" in err) == (1, True)
    code, _, err = run("train", "--data", photos, "--config", config, "--out", tmp_path / "out")
    assert code == 2
    assert "give --vae" in err
