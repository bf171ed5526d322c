import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qdm_med.data.degradation.jpeg import jpeg_round_trip

GOLDEN = Path(__file__).parents[2] / "golden" / "degradation.npz"


@pytest.mark.parametrize(
    ("source", "name", "qualities"),
    [
        ("jpeg_in", "jpeg_q70_95", (70, 95)),
        ("jpeg_in", "jpeg_q30_50", (30, 50)),
        ("jpeg_gray_in", "jpeg_gray_q70_95", (70, 95)),
    ],
)
def test_jpeg_is_that_of_the_paper(source, name, qualities):
    with np.load(GOLDEN) as golden:
        images, expected = torch.from_numpy(golden[source]), golden[name]
    for image, quality, wanted in zip(images, qualities, expected, strict=True):
        np.testing.assert_allclose(jpeg_round_trip(image, quality).numpy(), wanted, rtol=0, atol=1e-5)
        if "gray" in name:
            one_channel = jpeg_round_trip(image[:1], quality)
            np.testing.assert_allclose(one_channel.expand(3, -1, -1).numpy(), wanted, rtol=0, atol=1e-5)


def smooth_image() -> np.ndarray:
    row, column = np.mgrid[:48, :64]
    return np.round(127 + 60 * np.sin(row / 7) + 50 * np.cos(column / 5 + row / 11)).astype(np.uint8)


@pytest.mark.parametrize("quality", [60, 75, 90])
def test_the_loss_is_as_large_as_that_of_a_real_encoder(quality):
    pixels = smooth_image()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    real = np.asarray(Image.open(file), dtype=np.float64)
    ours = jpeg_round_trip(torch.from_numpy(pixels)[None] / 255.0, quality)[0].numpy() * 255.0
    real_loss, our_loss = (np.sqrt(np.mean((image - pixels) ** 2)) for image in (real, ours))
    assert our_loss == pytest.approx(real_loss, rel=0.25)


def test_two_channels_are_refused():
    with pytest.raises(ValueError, match="one channel or three, got 2"):
        jpeg_round_trip(torch.zeros(2, 8, 8), 80)
