"""The backbone file of LPIPS comes from files that everybody has."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from qdm_med.errors import CheckpointError
from qdm_med.evaluation.measures.backbone import write_backbone
from qdm_med.evaluation.measures.perceptual import Lpips

models = pytest.importorskip("torchvision.models")
lpips = pytest.importorskip("lpips")


@pytest.mark.parametrize(("network", "short"), [("alexnet", "alex"), ("squeezenet1_1", "squeeze")])
def test_torchvisions_file_and_a_saved_lpips_network_give_the_backbone_that_lpips_computes_with(
    tmp_path, network, short
):
    torch.manual_seed(0)
    state = getattr(models, network)(weights=None).state_dict()
    torch.save(state, tmp_path / "published.pth")
    assert write_backbone(tmp_path / "published.pth", tmp_path / "backbone.safetensors") == network
    mine = Lpips(tmp_path / "backbone.safetensors")
    theirs = lpips.LPIPS(net=short, pnet_rand=True, verbose=False).eval()
    for name, value in theirs.net.state_dict().items():
        value.copy_(state["features." + name.split(".", 1)[1]])
    first, second = torch.rand(2, 1, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(mine(first, second), theirs(first, second).flatten())
    torch.save(theirs.state_dict(), tmp_path / "saved.pth")
    assert write_backbone(tmp_path / "saved.pth", tmp_path / "again.safetensors") == network
    again = safetensors.torch.load_file(tmp_path / "again.safetensors")
    assert again.keys() == safetensors.torch.load_file(tmp_path / "backbone.safetensors").keys()


def test_what_is_no_backbone_is_refused_by_name(tmp_path):
    torch.save({"lin0.model.1.weight": torch.zeros(1)}, tmp_path / "heads.pth")
    (tmp_path / "noise.pth").write_bytes(b"no weights")
    for name, told in (
        ("heads.pth", "neither of alexnet"),
        ("noise.pth", "download it again"),
        ("absent.pth", "absent"),
    ):
        with pytest.raises(CheckpointError, match=told):
            write_backbone(tmp_path / name, tmp_path / "out.safetensors")
    with pytest.raises(CheckpointError, match=r"must end in \.safetensors"):
        write_backbone(tmp_path / "heads.pth", tmp_path / "out.npz")
    assert not list(tmp_path.glob("out*"))
