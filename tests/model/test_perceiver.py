"""The whole model: prefixes, slices, batches and order of calls."""

import copy
import itertools
import random

import pytest
import torch

from adapcli.errors import UsageError
from adapcli.model.perceiver import AdaPerceiver, Output
from adapcli.space import Configuration

TASKS = ["classification", "features", "distillation", "segmentation", "depth"]
CLOSE = {"atol": 2e-5, "rtol": 1e-5}


def parts(out):
    named = {"logits": out.logits, "features": out.features, "maps": out.maps}
    return {name: value for name, value in named.items() if value is not None}


def assert_same(a, b):
    a, b = parts(a), parts(b)
    assert a.keys() == b.keys()
    assert a
    for name in a:
        torch.testing.assert_close(a[name], b[name], **CLOSE)


@torch.no_grad()
def latents(model, x, tokens, width=24, depth=3):
    """All z_1 .. z_depth of one run, (depth, B, tokens, D)."""
    plan = model.plan(Configuration(tokens, width, depth), len(x))
    return torch.stack(list(model.states(model.read(model.embed(x), tokens), plan)))


def gap(model, x, short, long):
    return (latents(model, x, long)[:, :, :short] - latents(model, x, short)).abs().max().item()


# The prefix property


@pytest.mark.parametrize(("short", "long"), [(2, 4), (2, 8), (4, 8), (4, 7), (2, 3)])
def test_the_first_tokens_of_a_longer_run_equal_a_shorter_run(make_model, images, short, long):
    assert gap(make_model(), images, short, long) < 1e-5


@pytest.mark.parametrize(("short", "long"), [(1, 2), (3, 5), (5, 8), (7, 8)])
def test_with_a_causal_mask_every_length_is_a_prefix(make_model, images, short, long):
    assert gap(make_model(mask="causal"), images, short, long) < 1e-5


@pytest.mark.parametrize(
    ("changes", "short", "long"),
    [({"mask": "none"}, 4, 8), ({}, 3, 8), ({}, 8, 12), ({"mask": "causal"}, 8, 12)],
    ids=["no mask", "not a granularity", "beyond the trained length", "causal beyond the trained length"],
)
def test_where_the_prefix_property_does_not_hold(make_model, images, changes, short, long):
    model = make_model(**changes)
    assert gap(model, images, short, long) > 1e-2
    assert model.config.has_prefix_property == (changes.get("mask") != "none")


@pytest.mark.parametrize("task", TASKS)
@torch.no_grad()
def test_reading_out_a_prefix_equals_the_shorter_run(make_model, images, task):
    model = make_model(task=task)
    patches = model.embed(images)
    for depth, tokens in itertools.product((1, 3), (2, 4, 8)):
        z = latents(model, images, 8, 12, depth)[-1][:, :tokens]
        out = model.write(z, patches, size=(12, 12))
        assert_same(out, model(images, Configuration(tokens, 12, depth)))


# A slice equals a small network


@torch.no_grad()
def small_network(model, tokens, width, depth):
    """A model that has only these tokens, units and blocks, with the weights copied."""
    big, hidden = model.config, model.config.hidden(width)
    values = big.model_dump() | {
        "depth": depth,
        "ffn_ratio": (hidden + 0.5) / big.embed_dim,
        "token_granularities": (*(g for g in big.token_granularities if g < tokens), tokens),
        "widths": (big.embed_dim,),
    }
    small = AdaPerceiver(type(big)(**values)).eval()
    assert small.blocks[0].ffn.fc1.out_features == hidden
    for name, module in model.named_children():
        if name != "blocks":
            setattr(small, name, copy.deepcopy(module))
    for mine, theirs in zip(small.blocks, model.blocks, strict=False):
        state = theirs.state_dict()
        own = mine.state_dict()
        mine.load_state_dict({n: t[tuple(map(slice, own[n].shape))] for n, t in state.items()})
    return small


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
@pytest.mark.parametrize("mask", ["block", "causal", "none"])
@pytest.mark.parametrize("task", TASKS)
@torch.no_grad()
def test_a_configuration_equals_a_small_network_with_copied_weights(make_model, images, task, mask, ffn):
    model = make_model(task=task, mask=mask, ffn=ffn)
    for tokens, width, depth in [(2, 6, 1), (4, 12, 2), (8, 24, 3), (8, 6, 2)]:
        small = small_network(model, tokens, width, depth)
        out = small(images, small.full_configuration)
        assert_same(model(images, Configuration(tokens, width, depth)), out)


@torch.no_grad()
def test_a_width_per_block_equals_blocks_run_one_by_one(make_model, images):
    model, widths = make_model(), (24, 6, 12)
    plan = model.plan(Configuration(4, widths, 3), len(images))
    z = model.read(model.embed(images), 4)
    for block, width in zip(model.blocks, widths, strict=True):
        z = block(z, plan.rotation, plan.ends, model.config.hidden(width), "dense")
    by_hand = model.write(z, model.embed(images), size=(12, 12))
    assert_same(model(images, Configuration(4, widths, 3)), by_hand)


# Batches


@pytest.mark.parametrize("task", TASKS)
@torch.no_grad()
def test_a_width_per_sample_equals_each_sample_at_its_width(make_model, images, task):
    model, widths = make_model(task=task), [6, 24, 12, 6]
    together = model(images, Configuration(4, 24, 2), widths=widths)
    for i, width in enumerate(widths):
        alone = parts(model(images[i : i + 1], Configuration(4, width, 2)))
        for name, value in parts(together).items():
            torch.testing.assert_close(value[i : i + 1], alone[name], **CLOSE)


@pytest.mark.parametrize("task", TASKS)
@torch.no_grad()
def test_batch_mates_do_not_change_a_sample(make_model, images, task):
    model, configuration = make_model(task=task), Configuration(4, 12, 2)
    together = model(images, configuration)
    others = model(torch.cat([images[:1], 100 * torch.ones_like(images[:2])]), configuration)
    alone = parts(model(images[:1], configuration))
    for name, value in alone.items():
        torch.testing.assert_close(parts(together)[name][:1], value, **CLOSE)
        torch.testing.assert_close(parts(others)[name][:1], value, **CLOSE)


@torch.no_grad()
def test_an_empty_batch_has_no_answers(make_model, images):
    assert make_model()(images[:0], Configuration(4, 12, 2)).logits.shape == (0, 5)


# Order of calls


@pytest.mark.parametrize("mask", ["block", "causal", "none"])
@torch.no_grad()
def test_answers_never_depend_on_earlier_calls(make_model, images, mask):
    model, calls = make_model(mask=mask), []
    for tokens, width, depth in itertools.product((1, 4, 8, 11), (6, 24), (1, 3)):
        calls.append((Configuration(tokens, width, depth), {}))
    calls += [
        (Configuration(8, 24, 3), {"granularities": (3, 8)}),
        (Configuration(8, 24, 3), {"widths": [6, 12, 24, 6]}),
        (Configuration(8, 24, 3), {"attention": "dense"}),
    ]
    fresh = [make_model(mask=mask)(images, c, **options).logits for c, options in calls]
    order = list(range(len(calls))) * 2
    random.Random(0).shuffle(order)
    for i in order:
        configuration, options = calls[i]
        assert torch.equal(model(images, configuration, **options).logits, fresh[i])


@torch.no_grad()
def test_other_granularities_are_another_mask(make_model, images):
    model, full = make_model(), Configuration(8, 24, 3)
    own = model(images, full).logits
    assert (model(images, full, granularities=(3, 8)).logits - own).abs().max() > 1e-3
    torch.testing.assert_close(model(images, full, granularities=(2, 4, 8)).logits, own)
    unmasked = make_model(mask="none")(images, full).logits
    torch.testing.assert_close(model(images, full, granularities=(8,)).logits, unmasked, **CLOSE)


# Shapes, sizes and refusals


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", [(12, 12), (8, 20), (13, 9)])
@torch.no_grad()
def test_shapes_for_any_image_size(make_model, task, size):
    out = make_model(task=task)(torch.randn(2, 1, *size), Configuration(4, 12, 2))
    patches = (size[0] // 4) * (size[1] // 4)
    expected = {
        "logits": (2, 5) if task in ("classification", "distillation") else None,
        "features": (2, patches, 7) if task != "classification" else None,
        "maps": {"segmentation": (2, 5, *size), "depth": (2, 1, *size)}.get(task),
    }
    assert {name: tuple(value.shape) for name, value in parts(out).items()} == {
        name: shape for name, shape in expected.items() if shape
    }
    assert out.depth.tolist() == [2, 2]


@torch.no_grad()
def test_without_a_configuration_the_full_one_runs(make_model, images):
    model = make_model()
    assert model.full_configuration == Configuration(8, 24, 3)
    assert torch.equal(model(images).logits, model(images, model.full_configuration).logits)


@pytest.mark.parametrize(
    ("configuration", "options", "message"),
    [
        (Configuration(0, 24, 1), {}, "tokens 0"),
        (Configuration(4, 24, 0), {}, "depth 0"),
        (Configuration(4, 24, 4), {}, "depth 4"),
        (Configuration(4, 25, 1), {}, "width 25"),
        (Configuration(4, 0, 1), {}, "width 0"),
        (Configuration(4, -6, 1), {}, "width -6"),
        (Configuration(4, (24, 12), 3), {}, "2 values for depth 3"),
        (Configuration(4, 24, 1), {"widths": [24]}, "1 values for a batch of 4"),
        (Configuration(4, 24, 1), {"widths": [24, 24, 24, 99]}, "width 99"),
        (Configuration(4, 24, 1), {"granularities": (0, 4)}, "granularities"),
        (Configuration(4, 24, 1), {"granularities": (4, 2)}, "granularities"),
        (Configuration(4, 24, 1), {"granularities": (2, 2, 4)}, "granularities"),
        (Configuration(4, 24, 1), {"granularities": ()}, "granularities"),
        (Configuration(4, 24, 1), {"attention": "sparse"}, "attention"),
    ],
)
def test_what_cannot_be_run_is_refused(make_model, images, configuration, options, message):
    with pytest.raises(UsageError, match=message):
        make_model()(images, configuration, **options)


@pytest.mark.parametrize("shape", [(1, 12, 12), (2, 3, 12, 12), (2, 1, 3, 12), (2, 1, 12, 0)])
def test_images_of_another_shape_are_refused(make_model, shape):
    with pytest.raises(UsageError, match="images of shape"):
        make_model()(torch.zeros(shape))


def test_every_parameter_of_a_trained_path_gets_a_gradient(make_model, images):
    for task in TASKS:
        model = make_model(task=task).train()
        for part in parts(model(images)).values():
            part.square().sum().backward(retain_graph=True)
        lost = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not lost, task


@torch.no_grad()
def test_the_same_weights_run_in_bfloat16(make_model, images):
    model = make_model()
    exact = model(images).logits
    rough = copy.deepcopy(model).bfloat16()(images.bfloat16()).logits
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


def test_torch_exports_the_model_at_a_configuration_for_any_batch(make_model):
    model, configuration = make_model(), Configuration(5, 13, 2)
    x = torch.randn(2, 1, 16, 16)
    shapes = {"x": {0: torch.export.Dim("batch")}, "configuration": []}  # a constant has no shapes
    exported = torch.export.export(model, (x,), {"configuration": configuration}, dynamic_shapes=shapes)
    for batch in (2, 3):
        x = torch.randn(batch, 1, 16, 16)
        answer, direct = exported.module()(x, configuration=configuration), model(x, configuration)
        assert isinstance(answer, Output)
        torch.testing.assert_close(answer.logits, direct.logits)
        assert torch.equal(answer.depth, direct.depth)
        assert answer.maps is None
