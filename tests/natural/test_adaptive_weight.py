"""The adversarial loss of a VQGAN pulls as hard as its reconstruction does (VQGAN, arXiv 2012.09841, Eq. 7)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import yaml
from torch import nn

from qdm_med import distributed
from qdm_med.errors import ConfigError
from qdm_med.models.autoencoder.vq import VqAutoencoder, VqConfig
from qdm_med.natural.experiment import run_vqgan
from qdm_med.natural.vqgan_training import VqganBatch, VqganObjective, VqganTrainingConfig
from qdm_med.serialise import to_mapping
from qdm_med.training.adversary import WEIGHT_LIMIT, PatchAdversary, adaptive_weight
from qdm_med.training.runs import Start
from tests.natural.conftest import TINY_VQ
from tests.natural.test_training import EXPERIMENT, photos
from tests.training.test_many_processes import assert_same_run, torchrun

__all__ = ["photos"]  # a fixture

FIXED = VqganTrainingConfig(crop=32, perceptual_weight=0.5, adversarial_weight=2.0, discriminator_layers=1)
ADAPTIVE = replace(FIXED, adversarial_adaptive=True)


def distance(made: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return (made - truth).square().flatten(1).mean(dim=1)


def objective(config: VqganTrainingConfig, seed: int = 0) -> VqganObjective:
    torch.manual_seed(seed)
    return VqganObjective(VqAutoencoder(TINY_VQ), config, PatchAdversary(3, 8, 1), distance)


def batch(items: int = 2, *, adversarial: bool = True) -> VqganBatch:
    generator = torch.Generator().manual_seed(1)
    return VqganBatch(torch.rand(items, 3, 32, 32, generator=generator) * 2 - 1, adversarial=adversarial)


def pull(config: VqganTrainingConfig, *, adversarial: bool) -> torch.Tensor:
    """Gradient of a whole step at the last layer, as the optimiser would get it."""
    trained = objective(config)
    trained(batch(adversarial=adversarial))["loss"].backward()
    return trained.autoencoder.network.decoder[-2].weight.grad


def test_the_weight_is_the_ratio_of_the_norms_of_known_gradients():
    layer = nn.Parameter(torch.tensor([1.0, 1.0]))
    reconstruction, adversarial = layer @ torch.tensor([3.0, 4.0]), layer @ torch.tensor([0.3, -0.4])
    assert float(adaptive_weight(reconstruction, adversarial, layer)) == pytest.approx(5 / 0.5, rel=1e-5)
    assert float(adaptive_weight(reconstruction, 0 * adversarial, layer)) == WEIGHT_LIMIT
    assert float(adaptive_weight(0 * reconstruction, adversarial, layer)) == 0
    (reconstruction + adversarial).backward()  # the graphs are still there, and nothing was added to them
    assert layer.grad.tolist() == pytest.approx([3.3, 3.6])


def test_at_the_last_layer_the_adversary_pulls_as_many_times_as_hard_as_its_weight_says():
    alone = pull(ADAPTIVE, adversarial=False)
    assert torch.equal(alone, pull(FIXED, adversarial=False))
    adaptive, fixed = (pull(config, adversarial=True) - alone for config in (ADAPTIVE, FIXED))
    assert float(adaptive.norm()) == pytest.approx(2.0 * float(alone.norm()), rel=1e-3)
    assert float(fixed.norm()) > 2 * float(adaptive.norm())  # a fixed weight leaves it to chance
    torch.testing.assert_close(adaptive / adaptive.norm(), fixed / fixed.norm(), atol=1e-4, rtol=0)


def test_the_weight_is_told_and_has_no_gradient():
    losses = objective(ADAPTIVE)(batch())
    terms = losses["codebook"] + 0.25 * losses["commitment"] + losses["l1"] + 0.5 * losses["perceptual"]
    told = losses["adversarial_weight"]
    assert not told.requires_grad
    torch.testing.assert_close(losses["loss"], terms + told * losses["adversarial"])
    assert "adversarial_weight" not in objective(FIXED)(batch())


def test_processes_that_share_a_batch_use_the_weight_of_the_whole_batch(monkeypatch):
    whole, image = objective(ADAPTIVE), batch(2).image
    expected = whole(batch(2))["adversarial_weight"] / 2.0
    autoencoder, adversary = whole.autoencoder, whole.adversary

    def losses(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        decoded = autoencoder.reconstruct(part).image
        return (decoded - part).abs().mean() + 0.5 * distance(decoded, part).mean(), adversary.deceived(decoded)

    others = iter(
        [torch.autograd.grad(loss, autoencoder.last_layer, retain_graph=True)[0] for loss in losses(image[1:])]
    )
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "reduce_sum", lambda own: own + next(others))
    found = adaptive_weight(*losses(image[:1]), autoencoder.last_layer)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("config", "channels"), [(TINY_VQ, 12), (VqConfig("latent-diffusion", 16, 3, (32, 32, 32), (1, 1, 1)), 3)]
)
def test_the_last_layer_is_the_one_that_nothing_follows(config, channels):
    autoencoder = VqAutoencoder(config)
    layer, image = autoencoder.last_layer, torch.zeros(1, 3, 16, 16)
    assert len(layer) == channels  # three, or three for each pixel of a square of four
    with torch.no_grad():
        layer.zero_()
        for name, value in autoencoder.network.decoder.named_parameters():
            if name.endswith("bias") and len(value) == channels:
                value.fill_(0.25)
        assert bool((autoencoder.reconstruct(image).image == 0.25).all())


def test_a_batch_in_parts_is_refused_because_each_would_have_a_weight_of_its_own(tmp_path):
    vqgan, loop = replace(EXPERIMENT.vqgan, adversarial_adaptive=True), replace(EXPERIMENT.loop, accumulate=2)
    with pytest.raises(ConfigError, match=r"loop\.accumulate is 2; set it to 1"):
        run_vqgan(replace(EXPERIMENT, vqgan=vqgan, loop=loop), Start(tmp_path, tmp_path / "run", device="cpu"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_train_against_the_adversary_as_one_does(photos, tmp_path):
    vqgan = replace(EXPERIMENT.vqgan, adversarial_adaptive=True, adversarial_start=1, quantised_from=0)
    experiment = replace(EXPERIMENT, vqgan=vqgan, loop=replace(EXPERIMENT.loop, batch=4))
    run_vqgan(experiment, Start(photos, tmp_path / "one", device="cpu", report=lambda line: None))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_mapping(experiment)))
    given = ("--data", photos, "--config", tmp_path / "config.yaml", "--out", tmp_path / "two", "--device", "cpu")
    done = torchrun("-m", "qdm_med.cli.app", "train-vae", *given)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "two", tmp_path / "one")
