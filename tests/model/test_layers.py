"""Elastic layers equal small layers with copied weights."""

import pytest
import torch
from torch.nn.functional import interpolate

from adapcli.model.heads import DepthHead, SegmentationHead
from adapcli.model.layers import MatryoshkaFFN, PatchEmbed, layer_norm

KINDS = ["mlp", "swiglu"]


def seeded(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def small_copy(ffn, hidden, kind):
    """A plain FFN of `hidden` units with the first units' weights."""
    small = MatryoshkaFFN(ffn.fc1.in_features, hidden, ffn.fc2.out_features, kind)
    small.fc1.weight.copy_(ffn.fc1.weight[:hidden])
    small.fc1.bias.copy_(ffn.fc1.bias[:hidden])
    if kind == "swiglu":
        small.gate.weight.copy_(ffn.gate.weight[:hidden])
        small.gate.bias.copy_(ffn.gate.bias[:hidden])
    small.fc2.weight.copy_(ffn.fc2.weight[:, :hidden])
    small.fc2.bias.copy_(ffn.fc2.bias)
    return small


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden", [1, 7, 20])
@torch.no_grad()
def test_a_slice_equals_a_small_ffn_with_copied_weights(kind, hidden):
    ffn, x = MatryoshkaFFN(6, 20, 5, kind), seeded(3, 4, 6)
    torch.testing.assert_close(ffn(x, hidden), small_copy(ffn, hidden, kind)(x))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_units_per_sample_equal_each_sample_sliced_alone(kind):
    ffn, x, hidden = MatryoshkaFFN(6, 20, 5, kind), seeded(4, 3, 6), [1, 20, 7, 7]
    together = ffn(x, torch.tensor(hidden))
    for i, units in enumerate(hidden):
        torch.testing.assert_close(together[i : i + 1], ffn(x[i : i + 1], units))


@pytest.mark.parametrize("kind", KINDS)
def test_units_beyond_the_slice_get_no_gradient(kind):
    ffn = MatryoshkaFFN(6, 20, 5, kind)
    ffn(seeded(2, 3, 6), torch.tensor([4, 9])).sum().backward()
    assert ffn.fc1.weight.grad[9:].abs().max() == 0
    assert ffn.fc2.weight.grad[:, 9:].abs().max() == 0
    assert ffn.fc1.weight.grad[8].abs().max() > 0


def test_swiglu_gates_with_exact_gelu():
    ffn, x = MatryoshkaFFN(6, 8, 5, "swiglu"), seeded(2, 3, 6)
    by_hand = ffn.fc2(torch.nn.functional.gelu(ffn.gate(x)) * ffn.fc1(x))
    torch.testing.assert_close(ffn(x), by_hand)


def test_every_layer_norm_has_the_published_epsilon(make_model):
    assert layer_norm(4).eps == 1e-6
    for model in (make_model(), make_model(task="distillation", use_output_ffn=True)):
        norms = [m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)]
        assert norms
        assert {norm.eps for norm in norms} == {1e-6}


def embed(make_config, **changes):
    module = PatchEmbed(make_config(**changes))
    torch.nn.init.normal_(module.pos_embed, generator=torch.Generator().manual_seed(0))
    return module


def test_positions_of_the_stored_grid_are_the_weights_themselves(make_config):
    module = embed(make_config)
    assert module.positions(3, 3) is module.pos_embed


@pytest.mark.parametrize("grid", [(3, 5), (6, 2), (1, 1), (7, 7)])
def test_positions_of_another_grid_are_resampled_row_by_row(make_config, grid):
    module = embed(make_config)
    channel_first = module.pos_embed[0].T.reshape(1, 24, 3, 3)
    by_hand = interpolate(channel_first, size=grid, mode="bicubic", antialias=True)
    resampled = module.positions(*grid)
    assert resampled.shape == (1, grid[0] * grid[1], 24)
    torch.testing.assert_close(resampled[0], by_hand[0].flatten(1).T)
    assert not torch.equal(module.positions(*grid), module.positions(*grid[::-1])) or grid[0] == grid[1]


def test_a_constant_position_stays_constant_and_gradient_flows_through_resampling(make_config):
    module = embed(make_config)
    torch.nn.init.constant_(module.pos_embed, 2.5)
    resampled = module.positions(4, 6)
    torch.testing.assert_close(resampled, torch.full_like(resampled, 2.5))
    resampled.sum().backward()
    assert module.pos_embed.grad.abs().min() > 0


def test_patches_run_row_by_row(make_config):
    module = embed(make_config, use_embed_ffn=False)
    torch.nn.init.zeros_(module.pos_embed)
    x = torch.zeros(1, 1, 8, 12)
    x[..., 4:8, 8:12] = 1  # the third patch of the second row
    patches = module(x) - module(torch.zeros(1, 1, 8, 12))
    assert patches.abs().sum(-1).nonzero()[:, 1].tolist() == [5]


def test_depth_is_the_expectation_over_bins_and_stays_in_range(make_config):
    head = DepthHead(make_config(task="depth", min_depth=1.0, max_depth=3.0)).eval()
    torch.nn.init.zeros_(head.conv_seg.weight)
    torch.nn.init.zeros_(head.conv_seg.bias)
    even = head(seeded(2, 6, 7), (2, 3), (8, 12))
    assert even.shape == (2, 1, 8, 12)
    torch.testing.assert_close(even, torch.full_like(even, 2.0))  # equal weights: the middle
    torch.nn.init.constant_(head.conv_seg.bias, -1e3)
    head.conv_seg.bias.data[-1] = 1e6
    far = head(seeded(2, 6, 7), (2, 3), (8, 12))
    torch.testing.assert_close(far, torch.full_like(far, 3.0))


def test_segmentation_classifies_each_patch_and_resizes_to_the_image(make_config):
    head = SegmentationHead(make_config(task="segmentation"))
    maps = head(seeded(2, 6, 7), (2, 3), (8, 12))
    assert maps.shape == (2, 5, 8, 12)
    patches = head(seeded(2, 6, 7), (2, 3), (2, 3)).flatten(2).transpose(1, 2)
    normalised = torch.nn.functional.layer_norm(seeded(2, 6, 7), (7,), head.bn.weight, head.bn.bias, 1e-6)
    by_hand = normalised @ head.conv_seg.weight[:, :, 0, 0].T + head.conv_seg.bias
    torch.testing.assert_close(patches, by_hand)
