"""A tiny random model whose every path shows in the output."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from qdm_med.checkpoints.model import Checkpoint, ModelCard
from qdm_med.diffusion.ddpm import DdpmConfig
from qdm_med.diffusion.schedule import ScheduleConfig
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.compared.unet import LatentUnet, LatentUnetConfig
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER

SLICES = 4


@pytest.fixture(scope="session")
def tiny_checkpoint():
    torch.manual_seed(0)
    autoencoder, denoiser = TINY_AUTOENCODER, TINY_DENOISER
    networks = KlVae(autoencoder).eval(), TwoStreamDenoiser(denoiser).eval()
    enliven(*networks)
    return Checkpoint(ModelCard("tiny", autoencoder, denoiser), *networks, sha256="0" * 64)


def enliven(*networks):
    """Give weights to what starts at zero."""
    with torch.no_grad():
        for network in networks:
            for parameter in network.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.05)


@pytest.fixture(scope="session", params=["resshift", "ldm"])
def unet_checkpoint(tiny_checkpoint, request):
    """A tiny U-Net on the tiny autoencoder, in each chain."""
    torch.manual_seed(0)
    shape = LatentUnetConfig(2, channels=(8, 8), res_blocks=(1, 1), attention=(False, True), head_channels=8)
    network = LatentUnet(shape).eval()
    enliven(network)
    chain = DdpmConfig(steps=100) if request.param == "ldm" else ScheduleConfig()
    card = ModelCard(request.param, tiny_checkpoint.card.autoencoder, shape, chain, threshold=0.0, steps=(2, 2))
    return Checkpoint(card, tiny_checkpoint.autoencoder, network, sha256="1" * 64)


@pytest.fixture
def source(tmp_path):
    """Four small slices made of the CT slice that pydicom carries."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    pixels = dataset.pixel_array
    dataset.Rows, dataset.Columns = 24, 32
    folder = tmp_path / "source"
    folder.mkdir()
    for index in range(SLICES):
        dataset.PixelData = np.ascontiguousarray(pixels[40 + index : 64 + index, 40:72]).tobytes()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(index)])
        dataset.ImagePositionPatient = [-158.135803, -179.035797, -75.699997 + 5 * index]
        dataset.InstanceNumber = index + 1
        dataset.save_as(folder / f"{SLICES - index}.dcm")
    return folder
