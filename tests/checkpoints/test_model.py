"""Checkpoints: whole and said by themselves, or refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from qdm_med.checkpoints.file import read_tensors, save_with_card
from qdm_med.checkpoints.model import (
    Checkpoint,
    ModelCard,
    default_checkpoint,
    load_checkpoint,
    read_card,
    save_checkpoint,
)
from qdm_med.checkpoints.released import from_released, to_released
from qdm_med.diffusion.ddpm import DdpmConfig
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.intensity import HuWindow
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.compared.unet import LatentUnet, LatentUnetConfig
from qdm_med.models.qdm.config import PRESETS
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.uncertainty import SpreadCalibration
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER

UNET = LatentUnetConfig(2, channels=(8,), res_blocks=(1,), attention=(False,), head_channels=8, norm_groups=4)


@pytest.fixture(scope="session")
def card():
    autoencoder, denoiser = TINY_AUTOENCODER, TINY_DENOISER
    return ModelCard("tiny", autoencoder, denoiser, intensity=HuWindow(0, 1000), training={"slices": 3})


@pytest.fixture
def path(card, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, card, KlVae(card.autoencoder), TwoStreamDenoiser(card.denoiser))
    return path


def test_a_checkpoint_survives_the_way_to_disk_and_back(path, card):
    checkpoint = load_checkpoint(path)
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.card == card
    assert read_card(path) == (card, checkpoint.sha256)
    stored = load_file(path)
    for name, value in checkpoint.denoiser.state_dict().items():
        torch.testing.assert_close(value, stored[f"denoiser.{name}"], atol=0, rtol=0)
    assert not checkpoint.denoiser.training
    assert not list(path.parent.glob(".*"))


def test_a_unet_and_the_chain_of_latent_diffusion_survive_it_too(card, tmp_path):
    torch.manual_seed(0)
    path, network = tmp_path / "ldm.safetensors", LatentUnet(UNET)
    card = replace(card, denoiser=UNET, schedule=DdpmConfig(steps=100), threshold=0.0, steps=(15, 15))
    save_checkpoint(path, card, KlVae(card.autoencoder), network)
    checkpoint = load_checkpoint(path)
    assert checkpoint.card == card
    assert isinstance(checkpoint.denoiser, LatentUnet)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(checkpoint.denoiser.state_dict()[name], value, atol=0, rtol=0)
    with pytest.raises(CheckpointError, match="no counterpart in the released layout"):
        to_released(path, tmp_path / "a", tmp_path / "b")


def test_a_network_without_a_mask_has_no_threshold(card):
    with pytest.raises(ConfigError, match=r"threshold of .* must be 0.*: its network has no mask"):
        replace(card, denoiser=UNET)


@pytest.mark.parametrize(("which", "preset"), [("benchmark", "t"), ("clinical", "c")])
def test_the_embedded_cards_are_those_of_their_presets(which, preset):
    embedded, _ = read_card(default_checkpoint(which))
    assert embedded.denoiser == PRESETS[preset]


def test_autoencoders_are_told_apart_by_their_weights(path):
    one, same = load_checkpoint(path), load_checkpoint(path)
    assert one.shares_autoencoder(replace(same, denoiser=None))
    with torch.no_grad():
        same.autoencoder.latent_mean.add_(1e-6)
    assert not one.shares_autoencoder(same)
    assert not one.shares_autoencoder(load_checkpoint(default_checkpoint()))


def test_a_calibration_is_carried_and_a_card_of_before_there_were_any_is_read(path, card, tmp_path):
    assert card.uncertainty == ()
    tensors, metadata = read_tensors(path)
    values = json.loads(metadata["card"])
    del values["uncertainty"]
    old = tmp_path / "old.safetensors"
    save_file(tensors, old, metadata | {"card": json.dumps(values)})
    assert load_checkpoint(old).card == card
    calibrated = replace(card, uncertainty=(SpreadCalibration(4, 4, 8, 2.6, 28.4, 0.947),))
    save_with_card(old, old, calibrated)
    loaded = load_checkpoint(old)
    assert (loaded.card, loaded.sha256) == (calibrated, metadata["sha256"])
    assert {name: one.dtype for name, one in load_file(old).items()} == {n: one.dtype for n, one in tensors.items()}


def test_calibrations_that_mean_nothing_are_refused(card):
    one = SpreadCalibration(4, 4, 8, 2.6, 28.4, 0.947)
    with pytest.raises(ConfigError, match=r"calibrates \[\(4, 4, 8\), \(4, 4, 8\)\].*name each at most once"):
        replace(card, uncertainty=(one, one))
    with pytest.raises(ConfigError, match="must not be negative, got -1"):
        replace(one, factor=-1)


def test_half_precision_halves_the_file_and_is_run_as_float32(path, card, tmp_path):
    checkpoint = load_checkpoint(path)
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, card, checkpoint.autoencoder, checkpoint.denoiser, dtype=torch.float16)
    assert half.stat().st_size < 0.7 * path.stat().st_size
    assert {parameter.dtype for parameter in load_checkpoint(half).denoiser.parameters()} == {torch.float32}


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_file_cut_short_is_refused(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_checkpoint(path)


def test_changed_weights_are_refused(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="do not match their hash"):
        load_checkpoint(path)


def test_foreign_files_are_refused(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(1)}, foreign)
    with pytest.raises(CheckpointError, match="qdm-med convert"):
        load_checkpoint(foreign)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent.safetensors")


def test_a_card_with_an_unknown_key_is_refused(path, card):
    from qdm_med.checkpoints.file import weights_hash
    from qdm_med.checkpoints.model import FORMAT
    from qdm_med.serialise import to_mapping

    tensors = load_file(path)
    metadata = {"format": FORMAT, "card": json.dumps(to_mapping(card) | {"extra": 1}), "sha256": weights_hash(tensors)}
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match="unknown extra"):
        load_checkpoint(path)


def test_weights_that_do_not_fit_the_card_are_refused(path, card):
    networks = KlVae(card.autoencoder), TwoStreamDenoiser(replace(card.denoiser, hidden=32))
    save_checkpoint(path, card, *networks)
    with pytest.raises(CheckpointError, match="does not fit its card"):
        load_checkpoint(path)


def test_a_scale_that_was_not_trained_is_refused(card):
    with pytest.raises(CheckpointError, match="trained for x4, x8, not for x3"):
        card.steps_for(3)
    with pytest.raises(ConfigError, match="one number for each"):
        replace(card, steps=(4,))


def test_released_weights_become_a_checkpoint_and_go_back(golden_path, tmp_path):
    denoiser, autoencoder = golden_path / "qdm_tiny.safetensors", golden_path / "aekl_tiny.safetensors"
    ours = tmp_path / "ours.safetensors"
    from_released(denoiser, autoencoder, ours, scale=4, heads=4, intensity=HuWindow(40, 400))
    checkpoint = load_checkpoint(ours)
    assert checkpoint.card.scales == (4,)
    assert checkpoint.autoencoder.latent_scale.tolist() == pytest.approx([0.1] * 3)
    to_released(ours, tmp_path / "denoiser.safetensors", tmp_path / "autoencoder.safetensors")
    for original, back in ((denoiser, "denoiser"), (autoencoder, "autoencoder")):
        returned = load_file(tmp_path / f"{back}.safetensors")
        for name, value in load_file(original).items():
            torch.testing.assert_close(returned[name], value.float(), atol=1e-7, rtol=0)


def test_pickled_weights_are_read_without_running_code(golden_path, tmp_path):
    weights = load_file(golden_path / "qdm_tiny.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "weights.pth")
    from qdm_med.checkpoints.released import read_released

    assert read_released(tmp_path / "weights.pth").keys() == weights.keys()


class Explosive:
    def __reduce__(self):
        return (print, ("code of a pickle was run",))


def test_a_pickle_with_code_in_it_is_refused(tmp_path, capsys):
    from qdm_med.checkpoints.released import read_released

    torch.save({"state_dict": Explosive()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="cannot be read as weights alone"):
        read_released(tmp_path / "evil.pth")
    assert "was run" not in capsys.readouterr().out


def test_our_own_layout_has_no_released_counterpart(path, tmp_path):
    with pytest.raises(CheckpointError, match="no counterpart"):
        to_released(path, tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_the_embedded_checkpoint_serves_both_scales_and_is_small():
    path = default_checkpoint()
    assert path.stat().st_size < 40e6
    assert load_checkpoint(path).card.scales == (4, 8)
