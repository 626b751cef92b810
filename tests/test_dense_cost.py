"""The cost table of dense tasks: its ViT formula counts what torch counts, and the README says the same."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from adapcli.model.flops import flops
from adapcli.space import Configuration

FOLDER = Path(__file__).parents[1] / "experiments" / "dense_cost"


@pytest.fixture(scope="module")
def cost():
    spec = importlib.util.spec_from_file_location("dense_cost", FOLDER / "cost.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["dense_cost"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["dense_cost"]


class Block(nn.Module):
    """As in any ViT; attention spelt out, since the counter sees no fused one on a CPU."""

    def __init__(self, dim, heads, hidden):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        x = x + self.proj(attention.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


@pytest.mark.parametrize(("dim", "depth", "patch", "size"), [(16, 3, 4, (12, 20)), (24, 2, 7, (30, 21))])
def test_the_formula_counts_what_the_counter_counts(cost, dim, depth, patch, size):
    embed = nn.Conv2d(3, dim, patch, stride=patch)
    blocks = nn.Sequential(*(Block(dim, 2, 4 * dim) for _ in range(depth)))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tokens = embed(torch.zeros(1, 3, *size)).flatten(2).mT
        blocks(torch.cat((torch.zeros(1, 1, dim), tokens), 1))
    assert cost.ViT(dim, depth, patch).flops(size) == counter.get_total_flops()


def test_readings_add_up_to_the_published_count(cost):
    config, c = cost.dense_config(), Configuration(256, 832, 21)
    row = next(r for r in cost.rows() if r["configuration"] == str(c) and r["data"] == "ADE20K")
    assert row["encoder_flops"] + row["readout_flops"] == flops(config, c, (518, 518))
    counted = [row[f"{reading}_flops"] for reading in cost.READINGS]
    assert counted == sorted(counted)


def test_the_claim_lies_among_the_readings_at_256_tokens(cost):
    row = next(r for r in cost.rows() if r["configuration"] == "t256 w832 l21" and r["data"] == "ADE20K")
    ratios = [round(row[f"{reading}_ratio"], 1) for reading in cost.READINGS]
    assert ratios == [27.3, 26.8, 25.5, 22.8]
    text = (FOLDER / "README.md").read_text()
    assert all(f"{ratio}x" in text for ratio in ratios)
    assert cost.told(row) in text
