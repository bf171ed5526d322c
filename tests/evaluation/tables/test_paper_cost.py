"""Cost of the paper's networks on real masks: what is extrapolated equals what is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qdm_med.evaluation.measures.cost import CountedAutoencoder, autoencoder_cost, count_macs, step_cost
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.paper_cost import paper_cost_table, step_law
from qdm_med.models.autoencoder.kl_vae import PAPER_SIZE, KlVae
from qdm_med.models.qdm.config import PRESETS
from tests.shapes import TINY_AUTOENCODER


def row(threshold, windows, density, windows_in_all=64.0, sha="a"):
    cost = {"threshold": threshold, "windows": windows, "leaf_density": density, "windows_in_all": windows_in_all}
    return SliceScore("m", 4, "p", sha, 1.0, {}, cost)


def test_the_cost_of_any_mask_follows_from_four():
    law = step_law("s", 16)
    mask = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.1
    mask[:, :8, 8:16] = False
    counted = step_cost(PRESETS["s"], mask)
    assert counted.windows == 3
    assert law.macs(counted.windows, float(mask.sum())) == pytest.approx(counted.macs, rel=1e-9)
    assert law.macs(0, 0) == step_cost(PRESETS["s"], torch.zeros(1, 16, 16, dtype=torch.bool)).macs


def test_the_largest_network_at_full_mask_costs_18_20_tera():
    table = paper_cost_table([row(0.0, 64.0, 1.0), row(0.15, 0.0, 0.0)])
    assert table.head[:3] == ("threshold s", "active leaves", "active windows")
    full, none = table.rows
    assert full[:3] == ("0", "100.00%", "64.0 of 64")
    assert full[7] == "18.20 T"
    # 0.90 T to encode and 1.55 T to decode, as was measured on the released autoencoder.
    assert float(full[8].split()[0]) - 18.20 == pytest.approx(2.45, abs=0.02)
    assert none[7] == "0.61 T"  # 15 steps of the upstream, 40.5 G each


def test_the_papers_autoencoder_costs_what_was_counted_on_the_released_one():
    assert autoencoder_cost(PAPER_SIZE, 512) / 1e12 == pytest.approx(0.90 + 1.55, abs=0.02)


def test_slices_in_tiles_or_of_several_sizes_have_no_such_table():
    assert paper_cost_table([row(0.0, 10.0, 1.0, windows_in_all=12.0)]) is None
    assert paper_cost_table([row(0.0, 9.0, 1.0, 9.0), row(0.0, 4.0, 1.0, 4.0, "b")]) is None
    assert paper_cost_table([replace(row(0.0, 1.0, 1.0), cost={})]) is None


def test_an_autoencoder_that_counts_itself_gives_the_same_latents_and_is_counted_by_others_too():
    torch.manual_seed(0)
    plain = KlVae(TINY_AUTOENCODER).eval()
    counted = CountedAutoencoder(plain).eval()
    image = torch.rand(1, 1, 16, 16) * 2 - 1
    with torch.no_grad():
        answer, outside = count_macs(lambda: counted.decode(counted.encode(image)))
        expected, macs = count_macs(lambda: plain.decode(plain.encode(image)))
    torch.testing.assert_close(answer, expected, rtol=0, atol=0)
    assert counted.macs == outside == macs > 0
