"""Published networks from a user's weights: recognised, run in the model's range, refused in one line."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.evaluation.methods.image_model import load_image_model
from qdm_med.intensity import CompandedRange

CPU = torch.device("cpu")
INTENSITY = CompandedRange()


@pytest.fixture(scope="module")
def rrdb(tmp_path_factory):
    """BSRGAN's architecture (RRDB), two blocks of eight features, as its authors name the layers."""
    esrgan = pytest.importorskip("spandrel.architectures.ESRGAN", reason="spandrel is an extra")
    torch.manual_seed(0)
    network = esrgan.ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=2, scale=4)
    path = tmp_path_factory.mktemp("weights") / "bsrgan.pth"
    torch.save({"params_ema": network.state_dict()}, path)
    return path, network.eval()


@pytest.fixture(scope="module")
def swinir(tmp_path_factory):
    """SwinIR of the smallest size, in safetensors."""
    architecture = pytest.importorskip("spandrel.architectures.SwinIR", reason="spandrel is an extra")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = architecture.SwinIR(
        img_size=8, in_chans=3, embed_dim=6, depths=[1], num_heads=[1], window_size=8, mlp_ratio=2, upscale=4,
        upsampler="pixelshuffle", resi_connection="1conv",
    )  # fmt: skip
    path = tmp_path_factory.mktemp("weights") / "swinir.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}, path)
    return path


LOW_HU = np.random.default_rng(0).integers(-900, 900, (12, 20)).astype(np.float32)


def test_a_network_sees_ct_as_grey_in_0_to_1_and_answers_in_hu(rrdb):
    path, network = rrdb
    method = load_image_model(path, 4, INTENSITY, CPU)
    assert method.name == "ESRGAN (bsrgan.pth)"
    unit = (torch.from_numpy(INTENSITY.to_unit(LOW_HU)) + 1) / 2
    with torch.no_grad():
        answer = network(unit.expand(1, 3, -1, -1)).mean(dim=1)[0].clamp(0, 1)
    np.testing.assert_allclose(method.restore(LOW_HU, 4).hu, INTENSITY.to_hu((2 * answer - 1).numpy()), atol=0.1)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # from within the network
def test_sides_that_do_not_fit_the_networks_windows_are_padded_by_spandrel(swinir):
    method = load_image_model(swinir, 4, INTENSITY, CPU)
    assert method.name == "SwinIR (swinir.safetensors)"
    restored = method.restore(LOW_HU, 4).hu
    assert restored.shape == (48, 80)
    assert np.isfinite(restored).all()


def test_what_cannot_serve_is_one_line(rrdb, tmp_path):
    path, _ = rrdb
    with pytest.raises(CheckpointError, match=r"magnifies by 4, not by 8; give weights for x8"):
        load_image_model(path, 8, INTENSITY, CPU)
    with pytest.raises(CheckpointError, match=r"nothing\.pth: no such weights"):
        load_image_model(tmp_path / "nothing.pth", 4, INTENSITY, CPU)
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"layer": torch.zeros(3)}, tmp_path / "foreign.pth")
    for name in ("text.pth", "foreign.pth"):
        with pytest.raises(CheckpointError, match="spandrel cannot read these weights") as refused:
            load_image_model(tmp_path / name, 4, INTENSITY, CPU)
        assert "\n" not in str(refused.value)


def test_without_spandrel_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    (tmp_path / "any.pth").touch()
    with pytest.raises(ConfigError, match=r"install qdm-med\[compare\]"):
        load_image_model(tmp_path / "any.pth", 4, INTENSITY, CPU)
