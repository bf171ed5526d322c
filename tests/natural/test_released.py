"""The released natural-image layout: latent diffusion's VQ model with 4x downsampling, 3 channels and 8192 codes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from qdm_med.checkpoints.released_names import denoiser_to_released
from qdm_med.errors import CheckpointError
from qdm_med.models.autoencoder.vq import VqAutoencoder, VqConfig
from qdm_med.models.qdm.config import DenoiserConfig
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.natural.checkpoint import NaturalCard, load_natural, save_natural
from qdm_med.natural.released import from_released, is_vq, to_released, vq_config_from_released, vq_from_released

SMALL = DenoiserConfig(condition_channels=3, trained_size=32, hidden=32, depth=1, heads=2)
TOLERANCE = 1e-4


def res_block(name: str, before: int, after: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.norm1": (before,),
        f"{name}.conv1": (after, before, 3, 3),
        f"{name}.norm2": (after,),
        f"{name}.conv2": (after, after, 3, 3),
    }
    return shapes | ({f"{name}.nin_shortcut": (after, before, 1, 1)} if before != after else {})


def middle(name: str, width: int) -> dict[str, tuple[int, ...]]:
    attention = {f"{name}.mid.attn_1.{part}": (width, width, 1, 1) for part in ("q", "k", "v", "proj_out")}
    blocks = res_block(f"{name}.mid.block_1", width, width) | res_block(f"{name}.mid.block_2", width, width)
    return {**blocks, **attention, f"{name}.mid.attn_1.norm": (width,)}


def vq_model(widths: tuple[int, ...], blocks: int, latent: int, codes: int) -> dict[str, torch.Tensor]:
    """Names and shapes of latent diffusion's ``VQModel``, written down from its definition, with random values."""
    owners: dict[str, tuple[int, ...]] = {
        "encoder.conv_in": (widths[0], 3, 3, 3),
        "encoder.norm_out": (widths[-1],),
        "encoder.conv_out": (latent, widths[-1], 3, 3),
        "decoder.conv_in": (widths[-1], latent, 3, 3),
        "decoder.norm_out": (widths[0],),
        "decoder.conv_out": (3, widths[0], 3, 3),
        "quant_conv": (latent, latent, 1, 1),
        "post_quant_conv": (latent, latent, 1, 1),
        **middle("encoder", widths[-1]),
        **middle("decoder", widths[-1]),
    }
    before = widths[0]
    for level, width in enumerate(widths):
        for block in range(blocks):
            owners |= res_block(f"encoder.down.{level}.block.{block}", before, width)
            before = width
        if level < len(widths) - 1:
            owners[f"encoder.down.{level}.downsample.conv"] = (width, width, 3, 3)
    for level in reversed(range(len(widths))):
        for block in range(blocks + 1):
            owners |= res_block(f"decoder.up.{level}.block.{block}", before, widths[level])
            before = widths[level]
        if level > 0:
            owners[f"decoder.up.{level}.upsample.conv"] = (before, before, 3, 3)
    generator = torch.Generator().manual_seed(0)
    tensors = {f"{name}.weight": torch.randn(shape, generator=generator) * 0.1 for name, shape in owners.items()}
    tensors |= {f"{name}.bias": torch.randn(shape[:1], generator=generator) * 0.1 for name, shape in owners.items()}
    tensors["quantize.embedding.weight"] = torch.randn(codes, latent, generator=generator)
    return tensors


def test_the_released_size_has_the_names_and_shapes_of_the_f4_model():
    released = vq_model((128, 256, 512), 2, 3, 8192)
    config = vq_config_from_released(released)
    assert config == VqConfig()
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in VqAutoencoder(config).state_dict().items()}
    found = {name: tensor.shape for name, tensor in vq_from_released(released, config).items()}
    assert found == {name: shape for name, shape in wanted.items() if not name.startswith("latent_")}


def test_conversion_there_and_back_is_exact(tmp_path):
    torch.manual_seed(0)
    weights = vq_model((32, 32, 64), 1, 3, 32)
    denoiser = denoiser_to_released(TwoStreamDenoiser(SMALL))
    save_file(weights | {"loss.discriminator.main.0.weight": torch.zeros(1)}, tmp_path / "vq.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in denoiser.items()}, tmp_path / "qdm.safetensors")
    assert is_vq(tmp_path / "vq.safetensors")
    from_released(
        tmp_path / "qdm.safetensors", tmp_path / "vq.safetensors", tmp_path / "ours.safetensors", scale=4, heads=2
    )
    card = load_natural(tmp_path / "ours.safetensors").card
    assert (card.scale, card.steps, card.threshold) == (4, 15, 0.0)
    assert card.denoiser == SMALL
    to_released(tmp_path / "ours.safetensors", tmp_path / "qdm2.safetensors", tmp_path / "vq2.safetensors")
    for name, expected in (("vq2", weights), ("qdm2", denoiser)):
        back = load_file(tmp_path / f"{name}.safetensors")
        assert back.keys() == expected.keys()
        assert all(torch.equal(back[key], value) for key, value in expected.items())


def test_the_commands_convert_run_and_convert_back(run, tmp_path):
    torch.manual_seed(0)
    denoiser = denoiser_to_released(TwoStreamDenoiser(SMALL))
    save_file(vq_model((32, 32, 64), 1, 3, 32), tmp_path / "vq.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in denoiser.items()}, tmp_path / "qdm.safetensors")
    sources = ("--denoiser", tmp_path / "qdm.safetensors", "--autoencoder", tmp_path / "vq.safetensors")
    ours = tmp_path / "ours.safetensors"
    code, _, err = run("convert", *sources, "--heads", 2, "--out", ours)
    assert (code, err) == (0, "")
    Image.new("RGB", (9, 7), (200, 30, 90)).save(tmp_path / "photo.png")
    code, _, err = run("upscale", "--series", tmp_path / "photo.png", "--checkpoint", ours, "--steps", 1)
    assert (code, err) == (0, "")
    with Image.open(tmp_path / "photo-srx4.png") as made:
        assert made.size == (36, 28)
    back = ("--out", tmp_path / "qdm2.safetensors", "--autoencoder", tmp_path / "vq2.safetensors")
    code, _, err = run("convert", "--back", "--denoiser", ours, *back)
    assert (code, err) == (0, "")
    for name in ("vq", "qdm"):
        released, again = (load_file(tmp_path / f"{each}.safetensors") for each in (name, f"{name}2"))
        assert released.keys() == again.keys()
        assert all(torch.equal(again[key], value) for key, value in released.items())


def test_the_networks_answers_are_those_of_the_golden_autoencoder(golden, golden_path):
    """Its moments are a VQ encoder's answer of six channels; its decoder reads the first three of them off codes."""
    released, io = load_file(golden_path / "aekl_tiny.safetensors"), golden("aekl_io")
    post = torch.zeros(6, 6, 1, 1)
    post[:3, :3] = released["post_quant_conv.weight"]
    conv_in = torch.nn.functional.pad(released["decoder.conv_in.weight"].float(), (0, 0, 0, 0, 0, 3))
    codes = torch.nn.functional.pad(io["tiny_mean"][0].flatten(1).T, (0, 3))  # each latent pixel is a code
    edited = {
        "post_quant_conv.weight": post,
        "post_quant_conv.bias": torch.nn.functional.pad(released["post_quant_conv.bias"].float(), (0, 3)),
        "decoder.conv_in.weight": conv_in,
        "quantize.embedding.weight": codes,
    }
    weights = {**released, **edited}
    config = vq_config_from_released(weights)
    autoencoder = VqAutoencoder(config).eval()
    autoencoder.load_state_dict(vq_from_released(weights, config), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(autoencoder.encode(io["x"]), io["tiny_moments"], atol=TOLERANCE, rtol=0)
        beside = codes.T.reshape(1, 6, 8, 10) + 1e-3  # nearest to the same codes
        torch.testing.assert_close(autoencoder.decode(beside), io["tiny_dec"], atol=TOLERANCE, rtol=0)


def test_what_has_no_counterpart_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a latent-diffusion VQ autoencoder"):
        vq_config_from_released({"somewhere.weight": torch.zeros(1)})
    weights = vq_model((32, 32, 64), 1, 3, 32)
    with pytest.raises(CheckpointError, match=r"encoder\.other has no place|encoder\.other\.weight has no place"):
        vq_from_released(weights | {"encoder.other.weight": torch.zeros(1)}, vq_config_from_released(weights))
    light = VqConfig("light", 16, 3, (8, 16), (1, 1))
    save_natural(tmp_path / "light.safetensors", NaturalCard("light", light), VqAutoencoder(light))
    with pytest.raises(CheckpointError, match="no counterpart"):
        to_released(tmp_path / "light.safetensors", tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    other = replace(light, codes=8)
    with pytest.raises(CheckpointError, match="does not fit its card"):
        save_natural(tmp_path / "odd.safetensors", NaturalCard("odd", light), VqAutoencoder(other))
        load_natural(tmp_path / "odd.safetensors")
