from pathlib import Path

import numpy as np
import pytest
import torch

from qdm_med.errors import CheckpointError
from qdm_med.evaluation.measures.perceptual import Lpips

SHARED = Path(__file__).parents[4] / "shared" / "data" / "lpips" / "squeezenet1_1_features_fp16.npz"


def layer_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of SqueezeNet 1.1's convolutions, from its paper's table."""
    shapes = {"features.0.weight": (64, 3, 3, 3), "features.0.bias": (64,)}
    fires = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128)}
    fires |= {9: (256, 48, 192), 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)}
    for layer, (channels, squeeze, expand) in fires.items():
        convolutions = {
            "squeeze": (squeeze, channels, 1, 1),
            "expand1x1": (expand, squeeze, 1, 1),
            "expand3x3": (expand, squeeze, 3, 3),
        }
        for name, shape in convolutions.items():
            shapes[f"features.{layer}.{name}.weight"] = shape
            shapes[f"features.{layer}.{name}.bias"] = shape[:1]
    return shapes


def test_the_column_names_the_backbone_that_the_file_holds(tmp_path, backbone):
    rng = np.random.default_rng(0)
    # AlexNet's convolutions in torchvision: layer -> outputs, inputs, side.
    layers = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    values = {}
    for layer, (channels, before, side) in layers.items():
        values[f"features.{layer}.weight"] = rng.normal(0, 0.05, (channels, before, side, side)).astype(np.float32)
        values[f"features.{layer}.bias"] = np.zeros(channels, dtype=np.float32)
    np.savez(tmp_path / "alexnet.npz", **values)
    metric = Lpips(tmp_path / "alexnet.npz")
    assert (metric.column, Lpips(backbone).column) == ("lpips_alex", "lpips_squeeze")
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert float(metric(images[:1], images[:1])) == 0.0
    assert float(metric(images[:1], images[1:])) > 0.0
    assert metric.sha256 != Lpips(backbone).sha256


@pytest.fixture
def backbone(tmp_path):
    rng = np.random.default_rng(0)
    values = {name: rng.normal(0, 0.1, shape).astype(np.float16) for name, shape in layer_shapes().items()}
    np.savez(tmp_path / "backbone.npz", **values)
    return tmp_path / "backbone.npz"


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_file(), reason="no LPIPS backbone beside the repository")
def test_known_answer_of_torchmetrics_documented_example():
    generator = torch.Generator().manual_seed(42)
    first = torch.rand(2, 3, 100, 100, generator=generator) * 2 - 1
    second = torch.rand(2, 3, 100, 100, generator=generator) * 2 - 1
    metric = Lpips(SHARED)
    assert metric(first, second).tolist() == pytest.approx([0.1024, 0.0938], abs=1e-4)


def test_every_value_of_the_backbone_comes_from_the_file(backbone, tmp_path):
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    before = Lpips(backbone)(images[:1], images[1:])
    torch.manual_seed(99)
    assert torch.equal(Lpips(backbone)(images[:1], images[1:]), before)
    values = dict(np.load(backbone))
    for name in ("features.0.weight", "features.12.expand3x3.bias"):
        changed = values | {name: values[name] * 1.5 + np.float16(0.1)}
        np.savez(tmp_path / "changed.npz", **changed)
        assert not torch.equal(Lpips(tmp_path / "changed.npz")(images[:1], images[1:]), before)


def test_loading_leaves_the_callers_random_numbers_alone(backbone):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Lpips(backbone)
    assert torch.equal(torch.rand(3), expected)


def test_equal_images_have_no_distance_and_grey_is_three_equal_channels(backbone):
    metric = Lpips(backbone)
    first, second = torch.rand(2, 3, 1, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert metric(first, first).tolist() == [0.0, 0.0, 0.0]
    colour = metric(first.repeat(1, 3, 1, 1), second.repeat(1, 3, 1, 1))
    torch.testing.assert_close(metric(first, second), colour)


def test_the_distance_can_be_trained_on(backbone):
    prediction = torch.zeros(1, 1, 64, 64, requires_grad=True)
    Lpips(backbone)(prediction, torch.linspace(-1, 1, 64).expand(1, 1, 64, 64)).sum().backward()
    assert float(prediction.grad.abs().sum()) > 0


def test_a_file_that_is_no_backbone_is_refused(tmp_path, backbone):
    with pytest.raises(CheckpointError, match=r"nothing\.npz"):
        Lpips(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("not numbers")
    (tmp_path / "text.safetensors").write_text("not numbers")
    for name in ("text.npz", "text.safetensors"):
        with pytest.raises(CheckpointError, match="no LPIPS backbone can be read"):
            Lpips(tmp_path / name)
    values = dict(np.load(backbone))
    np.savez(tmp_path / "less.npz", **{name: values[name] for name in list(values)[1:]})
    with pytest.raises(CheckpointError, match=r"first features\.0\.weight"):
        Lpips(tmp_path / "less.npz")
    np.savez(tmp_path / "size.npz", **values | {"features.0.bias": np.zeros(5)})
    with pytest.raises(CheckpointError, match="another size"):
        Lpips(tmp_path / "size.npz")
