"""A tiny model and a small series for the commands."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file

from qdm_med.checkpoints.model import ModelCard, save_checkpoint
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    autoencoder, denoiser = TINY_AUTOENCODER, TINY_DENOISER
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    networks = KlVae(autoencoder), TwoStreamDenoiser(denoiser)
    with torch.no_grad():
        networks[1].read_out.weight.normal_(std=0.1)  # zero at the start: noise would not show
    save_checkpoint(path, ModelCard("tiny", autoencoder, denoiser), *networks)
    return path


@pytest.fixture
def series(tmp_path):
    """A folder with the CT slice that pydicom carries, made small."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    dataset.PixelData = np.ascontiguousarray(dataset.pixel_array[40:72, 40:80]).tobytes()
    dataset.Rows, dataset.Columns = 32, 40
    folder = tmp_path / "series"
    folder.mkdir()
    dataset.save_as(folder / "slice.dcm")
    return folder
