"""Small stores, a tiny model and cases with known truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qdm_med.checkpoints.model import Checkpoint, ModelCard
from qdm_med.data.degradation.degrade import BENCHMARK, degrade
from qdm_med.data.store.slices import SliceRecord, SliceStore, anonymous_key, slice_checksum
from qdm_med.evaluation.cases import Case, low_checksum
from qdm_med.evaluation.scoring import Truth
from qdm_med.intensity import CompandedRange
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER
from tests.stores import blocky, write_store

INTENSITY = CompandedRange()


@pytest.fixture(scope="session")
def make_truth():
    """Degrade a slice in HU and wrap both as the truth of a case."""

    def make(hu: np.ndarray, scale: int = 4, seed: int = 0) -> Truth:
        hu = np.clip(hu, -1024, 3071).astype(np.float32)
        params = BENCHMARK.draw(scale, np.random.default_rng(seed))
        low_res = degrade(torch.from_numpy(INTENSITY.to_unit(hu))[None, None], [params])
        stored = np.rint(hu).astype(np.int16)
        record = SliceRecord("val", "p", "s", 0.0, 0.7, 1.0, "", "", "phantom", slice_checksum(stored))
        low_hu = INTENSITY.to_hu(low_res[0, 0].numpy())
        return Truth.of(Case(0, record, hu, low_hu, scale, params, INTENSITY, low_checksum(low_res)))

    return make


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Four blocky slices of 64 x 64 in ``val``, of two patients, and one in ``train``."""
    numbered = ((blocky(number), "val" if number < 4 else "train", f"patient {number // 2}") for number in range(5))
    slices = ((hu, split, anonymous_key(patient)) for hu, split, patient in numbered)
    return SliceStore.open(write_store(tmp_path_factory.mktemp("data") / "store", slices))


@pytest.fixture(scope="session")
def checkpoint():
    """A fresh tiny network: the identity on the upsampled latent."""
    torch.manual_seed(0)
    autoencoder, denoiser = TINY_AUTOENCODER, TINY_DENOISER
    networks = KlVae(autoencoder).eval(), TwoStreamDenoiser(denoiser).eval()
    return Checkpoint(ModelCard("tiny", autoencoder, denoiser, scales=(4,), steps=(2,)), *networks, sha256="0" * 64)
