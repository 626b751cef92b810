"""The folded readout gives the plain readout's answers and gradients."""

import copy
import itertools

import pytest
import torch

from adapcli.errors import UsageError
from adapcli.model.readout import FoldedReadout


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def plain(model, z, prefixes):
    """Each prefix written on its own, keys and values projected per token: (N, G, K)."""
    answers = [model.adapt(model.write_token(z[:, :t], model.rotation(z.shape[1])[:, :t])) for t in prefixes]
    return torch.stack(answers, 1)


def latents(tokens, n=6, scale=1.0):
    return scale * torch.randn(n, tokens, 24, generator=torch.Generator().manual_seed(tokens))


VARIANTS = [
    {},
    {"use_output_ffn": True},
    {"qkv_bias": False},
    {"proj_bias": False, "qkv_bias": False},
    {"task": "distillation"},
    {"num_heads": 1},
    {"num_heads": 12},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("prefixes", [(8,), (1,), (2, 4, 8), (1, 2, 3, 4, 5, 6, 7, 8), (3, 7)], ids=str)
@torch.no_grad()
def test_folded_equals_plain_for_every_prefix(make_model, changes, prefixes):
    model, z = make_model(**changes), latents(8)
    folded = FoldedReadout.of(model, 8).logits(z, prefixes)
    assert folded.shape == (6, len(prefixes), 5)
    assert relative(folded, plain(model, z, prefixes)) <= 1e-5


@pytest.mark.parametrize("tokens", [1, 2, 5, 8, 9, 13, 24])
@torch.no_grad()
def test_folded_equals_plain_for_runs_of_any_length(make_model, tokens):
    """Beyond the trained length (8) too, where the run's length sets every rotation."""
    model, z = make_model(), latents(tokens)
    assert relative(FoldedReadout.of(model, tokens).logits(z), plain(model, z, (tokens,))) <= 1e-5


@torch.no_grad()
def test_a_fold_for_the_longest_run_serves_the_shorter_ones(make_model):
    model, z = make_model(), latents(4)
    long, short = FoldedReadout.of(model, 8), FoldedReadout.of(model, 4)
    torch.testing.assert_close(long.logits(z, (2, 4)), short.logits(z, (2, 4)))


@pytest.mark.parametrize("scale", [1e-3, 1e3])
@torch.no_grad()
def test_sharp_attention_does_not_overflow(make_model, scale):
    model, z = copy.deepcopy(make_model()), latents(8, scale=scale)
    model.write_head.cattn.q.weight *= 300
    folded = FoldedReadout.of(model, 8).logits(z, (1, 2, 5, 8))
    assert folded.isfinite().all()
    assert relative(folded, plain(model, z, (1, 2, 5, 8))) <= 1e-4


@pytest.mark.parametrize("changes", [{}, {"use_output_ffn": True}, {"qkv_bias": False}], ids=str)
def test_gradients_equal_those_of_the_plain_form(make_model, changes):
    model, z, prefixes = copy.deepcopy(make_model(**changes)), latents(8).requires_grad_(), (2, 5, 8)
    parameters = dict(model.named_parameters())
    weight = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(9))

    def gradients(logits):
        wanted = [z, *parameters.values()]
        found = torch.autograd.grad((logits * weight).sum(), wanted, allow_unused=True)
        return dict(zip(["z", *parameters], found, strict=True))

    folded = gradients(FoldedReadout.of(model, 8).logits(z, prefixes))
    expected = gradients(plain(model, z, prefixes))
    touched = [name for name, g in expected.items() if g is not None]
    assert "z" in touched
    assert "write_head.cattn.k.weight" in touched
    assert "output_latents.token" in touched
    for name in touched:
        scale = max(expected[name].abs().max().item(), 1e-3)
        # A key bias shifts all scores alike: its true gradient is zero, which the fold may never compute.
        ours = torch.zeros_like(expected[name]) if folded[name] is None else folded[name]
        assert (ours - expected[name]).abs().max().item() <= 1e-4 * scale, name


@torch.no_grad()
def test_the_written_token_equals_the_plain_one(make_model):
    model, z = make_model(), latents(8)
    written = FoldedReadout.of(model, 8).written(z, (4, 8))
    expected = [model.write_token(z[:, :t], model.rotation(t)) for t in (4, 8)]
    assert relative(written, torch.stack(expected, 1)) <= 1e-5


@torch.no_grad()
def test_all_readouts_of_a_pass_equal_running_each_configuration(make_model, images):
    model, space = make_model(), make_model().config.space
    from adapcli.space import Configuration

    plan = model.plan(Configuration(8, 12, 3), len(images))
    states = model.states(model.read(model.embed(images), 8), plan)
    readout = FoldedReadout.of(model, 8)
    answers = torch.stack([readout.logits(z, space.tokens) for z in states])
    for (i, depth), (j, tokens) in itertools.product(enumerate(space.depths), enumerate(space.tokens)):
        alone = model(images, Configuration(tokens, 12, depth)).logits
        assert relative(answers[i, :, j], alone) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_model_of_half_precision_can_be_folded(make_model, dtype):
    model, z = make_model(), latents(8)
    exact = FoldedReadout.of(model, 8).logits(z, (4, 8))
    half = copy.deepcopy(model).to(dtype)
    rough = FoldedReadout.of(half, 8).logits(z.to(dtype), (4, 8))
    assert rough.dtype == dtype
    assert relative(rough.float(), exact) < 0.1


@pytest.mark.parametrize("task", ["features", "segmentation", "depth"])
def test_queries_made_from_patches_cannot_be_folded(make_model, task):
    with pytest.raises(UsageError, match=task):
        FoldedReadout.of(make_model(task=task), 8)


@pytest.mark.parametrize("prefixes", [(4, 2), (0, 4), (2, 2), (4, 9)], ids=str)
def test_prefixes_that_do_not_ascend_within_the_run_are_refused(make_model, prefixes):
    with pytest.raises(UsageError, match="prefixes"):
        FoldedReadout.of(make_model(), 8).logits(latents(8), prefixes)
