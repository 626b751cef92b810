"""Cost: equal to what torch counts while the model runs, and consistent along every path."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from adapcli.errors import UsageError
from adapcli.model.config import ModelConfig
from adapcli.model.flops import (
    flops,
    increments,
    input_flops,
    memory_bytes,
    read_flops,
    readout_flops,
    trunk_flops,
)
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.readout import FoldedReadout
from adapcli.space import Configuration

TASKS = ("classification", "features", "distillation", "segmentation", "depth")


@st.composite
def model_configs(draw):
    heads = draw(st.integers(1, 3))
    dim = heads * draw(st.sampled_from((2, 4, 6)))
    longest = draw(st.integers(2, 9))
    patch = draw(st.integers(2, 4))
    task = draw(st.sampled_from(TASKS))
    dense = task in ("segmentation", "depth")
    return ModelConfig(
        task=task,
        decoder=draw(st.sampled_from(("linear", "conv"))) if dense else "linear",
        decoder_dim=draw(st.integers(4, 9)),
        decoder_stages=draw(st.integers(0, 2)),
        embed_dim=dim,
        num_heads=heads,
        depth=draw(st.integers(1, 3)),
        max_latent_tokens=longest,
        token_granularities=tuple(sorted(draw(st.sets(st.integers(1, longest), min_size=1, max_size=4)))),
        widths=tuple(sorted(draw(st.sets(st.integers(1, dim), min_size=1, max_size=3)))),
        ffn_ratio=draw(st.floats(1.0, 3.0)),
        image_size=patch * draw(st.integers(1, 4)),
        patch_size=patch,
        in_channels=draw(st.integers(1, 3)),
        num_classes=draw(st.integers(2, 6)),
        output_feat_dim=draw(st.integers(1, 6)),
        mask=draw(st.sampled_from(("block", "causal", "none"))),
        ffn=draw(st.sampled_from(("mlp", "swiglu"))),
        use_embed_ffn=draw(st.booleans()),
        use_output_ffn=draw(st.booleans()),
        qkv_bias=draw(st.booleans()),
        proj_bias=draw(st.booleans()),
        num_bins=draw(st.integers(2, 5)),
    )


@st.composite
def calls(draw):
    """A model, a configuration of it (in T or not, trained length or beyond) and an image size."""
    config = draw(model_configs())
    depth = draw(st.integers(1, config.depth))
    width = draw(
        st.sampled_from(config.widths)
        | st.lists(st.sampled_from(config.widths), min_size=depth, max_size=depth)
    )
    width = tuple(width) if isinstance(width, list) else width
    side = st.integers(config.patch_size, 4 * config.patch_size + 1)
    return config, Configuration(draw(st.integers(1, 12)), width, depth), (draw(side), draw(side))


def frozen_model(config):
    """The counter's hooks want either gradients or parameters that need none."""
    return AdaPerceiver(config).eval().requires_grad_(False)


def counted(run):
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def run_folded(model, x, configuration, readout, attention):
    """What the sweep executes: input stage, read, blocks, and the folded form of the class answer."""
    patches = model.embed(x)
    for state in model.states(
        model.read(patches, configuration.tokens), model.plan(configuration, len(x), attention=attention)
    ):
        z = state
    readout.logits(z)
    if model.config.task == "distillation":
        written = model.write_head_feat(
            model.output_latents_feat(patches), z, rotate_keys=model.rotation(configuration.tokens)
        )
        model.output_adapter_feat(written)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(calls(), st.sampled_from(("dense", "block")))
def test_plain_flops_equal_the_counter(call, attention):
    config, configuration, size = call
    model, x = frozen_model(config), torch.zeros(1, config.in_channels, *size)
    executed = counted(lambda: model(x, configuration, attention=attention))
    assert flops(config, configuration, image_size=size, attention=attention) == executed


@settings(max_examples=60, deadline=None)
@given(calls(), st.sampled_from(("dense", "block")))
def test_folded_flops_equal_the_counter(call, attention):
    config, configuration, size = call
    if config.task not in ("classification", "distillation"):
        plain = flops(config, configuration, image_size=size, attention=attention)
        assert flops(config, configuration, image_size=size, readout="folded", attention=attention) == plain
        return
    model, x = frozen_model(config), torch.zeros(1, config.in_channels, *size)
    readout = FoldedReadout.of(model, configuration.tokens)  # folding is done once a model, not once an image
    executed = counted(lambda: run_folded(model, x, configuration, readout, attention))
    assert flops(config, configuration, image_size=size, readout="folded", attention=attention) == executed


@settings(max_examples=30, deadline=None)
@given(calls())
def test_stages_add_up_and_a_batch_costs_its_samples(call):
    config, configuration, size = call
    parts = (
        input_flops(config, size)
        + trunk_flops(config, configuration, size, "block")
        + readout_flops(config, configuration.tokens, size, "plain")
    )
    assert flops(config, configuration, size, attention="block") == parts
    model, x = frozen_model(config), torch.zeros(3, config.in_channels, *size)
    assert counted(lambda: model(x, configuration)) == 3 * parts


def test_image_size_is_a_side_or_height_and_width(make_config):
    config = make_config(image_size=16)
    full = config.full_configuration
    assert flops(config, full) == flops(config, full, 16) == flops(config, full, (16, 16))
    assert flops(config, full, (16, 32)) == flops(config, full, (32, 16)) > flops(config, full)


@settings(max_examples=60, deadline=None)
@given(model_configs(), st.sampled_from(("plain", "folded")), st.sampled_from(("dense", "block")))
def test_more_tokens_width_or_depth_cost_more(config, readout, attention):
    cost = {c: flops(config, c, readout=readout, attention=attention) for c in config.space}
    for a, b in itertools.permutations(cost, 2):
        if a.tokens <= b.tokens and a.width <= b.width and a.depth <= b.depth:
            hidden_grows = config.hidden(a.width) < config.hidden(b.width)
            assert cost[a] < cost[b] or (not hidden_grows and cost[a] == cost[b])


def continues(config, a, b):
    """By hand: the same width, no fewer tokens or blocks, and tokens only where the prefix property holds."""
    if a.width != b.width or b.tokens < a.tokens or b.depth < a.depth:
        return False
    return a.tokens == b.tokens or config.mask != "none"


@settings(max_examples=60, deadline=None)
@given(model_configs())
def test_continuing_costs_the_direct_way_plus_the_extra_readout(config):
    grid = list(config.space)
    matrix = increments(config, grid)
    cost = [flops(config, c, readout="folded", attention="block") for c in grid]
    for (i, a), (j, b) in itertools.permutations(enumerate(grid), 2):
        if continues(config, a, b):
            assert cost[i] + matrix[i, j] == cost[j] + readout_flops(config, a.tokens)
        else:
            kept = read_flops(config, min(a.tokens, b.tokens))
            assert matrix[i, j] == cost[j] - input_flops(config) - kept


@settings(max_examples=60, deadline=None)
@given(model_configs())
def test_increments_are_never_negative_and_never_dearer_than_a_restart(config):
    grid = list(config.space)
    matrix = increments(config, grid)
    cost = np.array([flops(config, c, readout="folded", attention="block") for c in grid])
    off_diagonal = ~np.eye(len(grid), dtype=bool)
    assert (np.diag(matrix) == 0).all()
    assert (matrix[off_diagonal] > 0).all()
    assert (matrix <= cost[None, :] - input_flops(config)).all()
    assert matrix.dtype == np.float64


@settings(max_examples=60, deadline=None)
@given(model_configs(), st.data())
def test_the_trunk_costs_the_same_by_every_path(config, data):
    if config.mask == "none":
        return
    space, width = config.space, data.draw(st.sampled_from(config.widths))
    ways = [Configuration(t, width, d) for t, d in itertools.product(space.tokens, space.depths)]
    path = sorted(data.draw(st.sets(st.sampled_from(ways))), key=lambda c: (c.tokens + c.depth, c.tokens))
    path = [
        c for i, c in enumerate(path) if all(p.tokens <= c.tokens and p.depth <= c.depth for p in path[:i])
    ]
    path = [c for c in path if c != space.full] + [Configuration(space.tokens[-1], width, space.depths[-1])]
    matrix = increments(config, path)
    steps = sum(matrix[i, i + 1] - readout_flops(config, path[i + 1].tokens) for i in range(len(path) - 1))
    assert trunk_flops(config, path[0]) + steps == trunk_flops(config, path[-1])


def test_nothing_is_reused_where_tokens_are_no_prefix(make_config):
    a, b = Configuration(3, 24, 2), Configuration(8, 24, 2)  # 3 is not in T
    for changes in ({}, {"mask": "none"}):
        config = make_config(**changes)
        restart = flops(config, b, readout="folded", attention="block") - input_flops(config)
        assert increments(config, [a, b])[0, 1] == restart - read_flops(config, 3)
    config = make_config(mask="causal")  # there every t is a prefix
    step = trunk_flops(config, b) - trunk_flops(config, a) + readout_flops(config, 8)
    assert increments(config, [a, b])[0, 1] == step


def test_beyond_the_trained_length_not_even_the_read_is_kept(make_config):
    config = make_config()
    a, b = Configuration(8, 24, 2), Configuration(12, 24, 2)  # other rotations for all tokens
    restart = flops(config, b, readout="folded", attention="block") - input_flops(config)
    assert increments(config, [a, b])[0, 1] == restart


def test_a_width_per_block_continues_while_the_blocks_already_run_agree(make_config):
    config = make_config()
    narrow, grown = Configuration(4, (12, 24), 2), Configuration(4, (12, 24, 6), 3)
    others = [Configuration(4, widths, 3) for widths in ((24, 24, 6), (12, 6, 6))]
    matrix = increments(config, [narrow, grown, *others])
    assert matrix[0, 1] == trunk_flops(config, grown) - trunk_flops(config, narrow) + readout_flops(config, 4)
    for column, other in enumerate(others, start=2):
        restart = flops(config, other, readout="folded", attention="block") - input_flops(config)
        assert matrix[0, column] == restart - read_flops(config, 4)


@settings(max_examples=30, deadline=None)
@given(model_configs())
def test_memory_grows_along_every_axis_and_with_the_batch(config):
    grid = list(config.space)
    full = memory_bytes(config, config.full_configuration)
    assert all(0 < memory_bytes(config, c) <= full for c in grid)
    assert memory_bytes(config, grid[0], batch=2) > memory_bytes(config, grid[0])
    assert memory_bytes(config, grid[0], bytes_per_value=2) * 2 == memory_bytes(config, grid[0])


def test_memory_counts_the_weights_of_the_full_model_within_a_tenth(make_config):
    config = make_config(depth=6, embed_dim=96, widths=(48, 96), num_heads=4)
    with torch.device("meta"):
        weights = 4 * sum(p.numel() for p in AdaPerceiver(config).parameters())
    estimate = memory_bytes(config, config.full_configuration, batch=0)
    assert estimate == pytest.approx(weights, rel=0.1)


@pytest.mark.parametrize(
    ("configuration", "options", "message"),
    [
        (Configuration(4, 24, 99), {}, "depth 99"),
        (Configuration(0, 24, 1), {}, "tokens 0"),
        (Configuration(4, 25, 1), {}, "width 25"),
        (Configuration(4, (24, 24), 1), {}, "2 values for depth 1"),
        (Configuration(4, 24, 1), {"readout": "fold"}, "readout 'fold'"),
        (Configuration(4, 24, 1), {"attention": "flex"}, "attention 'flex'"),
        (Configuration(4, 24, 1), {"image_size": 3}, "image size 3 x 3"),
        (Configuration(4, 24, 1), {"image_size": (12, 0)}, "image size 12 x 0"),
    ],
)
def test_the_cost_of_what_cannot_be_run_is_refused(make_config, configuration, options, message):
    with pytest.raises(UsageError, match=message):
        flops(make_config(), configuration, **options)
