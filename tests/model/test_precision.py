"""bfloat16, by autocast and in the weights: what stays in float32, and how far the folded readout errs."""

import copy
from contextlib import contextmanager

import pytest
import torch

from adapcli.errors import UnavailableError, UsageError
from adapcli.evaluation.outcomes import signals
from adapcli.evaluation.passes import GridPass
from adapcli.inference.session import AnytimeSession
from adapcli.model.early_exit import early_exit
from adapcli.model.precision import as_written, autocast, resolve_dtype, wide
from adapcli.model.readout import FoldedReadout, folded
from adapcli.space import Configuration

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SEEDS = range(40)
PREFIXES = (2, 4, 8)


def plain(model, z):
    rope = model.rotation(z.shape[1])
    answers = [model.adapt(model.write_token(z[:, :t], rope[:, :t])) for t in PREFIXES]
    return torch.stack(answers, 1)


def latents(seed, tokens=8):
    return torch.randn(16, tokens, 24, generator=torch.Generator().manual_seed(seed))


def error(answer, exact):
    """Root of the mean square, relative."""
    return ((answer.double() - exact).square().mean() / exact.square().mean()).sqrt().item()


@contextmanager
def cast(model):
    """bfloat16 by autocast: the model as it is."""
    with autocast(CPU, torch.bfloat16):
        yield model, torch.float32


@contextmanager
def halved(model):
    """bfloat16 in the weights themselves."""
    yield copy.deepcopy(model).bfloat16(), torch.bfloat16


def errors(form, seed, make_model, **changes):
    """Of the folded and of the plain readout in bfloat16, against the plain one in float64.

    The float64 model has the weights, and reads the latents, that the rounded one has.
    """
    with form(make_model(seed, **changes)) as (model, dtype):
        z = latents(seed).to(dtype)
        rough = FoldedReadout.of(model, 8).logits(z, PREFIXES), plain(model, z)
    exact = plain(copy.deepcopy(model).double(), z.double())
    return [error(answer, exact) for answer in rough]


@pytest.mark.parametrize("changes", [{}, {"use_output_ffn": True}, {"qkv_bias": False}], ids=str)
@pytest.mark.parametrize("form", [cast, halved])
@torch.no_grad()
def test_in_bfloat16_the_folded_readout_errs_no_more_than_the_plain_one(make_model, form, changes):
    found = torch.tensor([errors(form, seed, make_model, **changes) for seed in SEEDS], dtype=torch.float64)
    ours, theirs = found.unbind(1)
    assert theirs.min() > 1e-4, "the plain form was not rounded, so nothing was compared"
    assert ours.median() <= theirs.median()
    assert ours.max() <= theirs.max()


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_in_float32_the_folded_readout_errs_by_1e_5_at_most(make_model, seed):
    model, z = make_model(seed), latents(seed)
    exact = plain(copy.deepcopy(model).double(), z.double())
    found = FoldedReadout.of(model, 8).logits(z, PREFIXES)
    assert (found - exact).abs().max() / exact.abs().max() <= 1e-5


@torch.no_grad()
def test_the_fold_does_not_depend_on_the_mode_it_was_first_made_in(make_model):
    model, z = make_model(), latents(0)
    expected = FoldedReadout.of(model, 8)
    with autocast(CPU, torch.bfloat16):
        kept = folded(model)
    for name in ("keys_THD", "key_bias_TH", "values_HDC", "value_bias_HC"):
        torch.testing.assert_close(getattr(kept, name), getattr(expected, name), atol=0, rtol=0)
    torch.testing.assert_close(folded(model).logits(z), expected.logits(z), atol=0, rtol=0)


@torch.no_grad()
def test_rotations_are_computed_in_float32_whatever_is_asked(make_model):
    model = make_model()
    with autocast(CPU, torch.bfloat16):
        turned = model.rotation(8)
    for other in (turned, copy.deepcopy(model).bfloat16().rotation(8)):
        torch.testing.assert_close(other, model.rotation(8), atol=0, rtol=0)


TASKS = {
    "classification": {},
    "distillation": {"task": "distillation"},
    "features": {"task": "features"},
    "segmentation": {"task": "segmentation"},
    "depth": {"task": "depth"},
}


@pytest.mark.parametrize("attention", ["block", "dense"])
@pytest.mark.parametrize("changes", TASKS.values(), ids=TASKS.keys())
@pytest.mark.parametrize("form", [cast, halved])
@torch.no_grad()
def test_every_task_runs_in_bfloat16_near_its_answer_in_float32(make_model, images, form, changes, attention):
    model = make_model(**changes)
    exact = model(images, attention=attention)
    with form(model) as (rough_model, dtype):
        rough = rough_model(images.to(dtype), attention=attention)
    for name in ("logits", "features", "maps"):
        if getattr(exact, name) is not None:
            assert 0 < error(getattr(rough, name), getattr(exact, name).double()) < 0.1, name


@pytest.mark.parametrize("form", [cast, halved])
@torch.no_grad()
def test_sessions_early_exit_and_the_grid_answer_like_the_direct_run_in_bfloat16(make_model, images, form):
    """As near to it as bfloat16 numbers are to each other."""
    with form(make_model()) as (model, dtype):
        x = images.to(dtype)
        at = Configuration(8, 12, 3)
        direct = model(x, at).logits.double()
        session = AnytimeSession(model, x, width=12)
        for tokens, depth in ((2, 1), (4, 1), (4, 3), (8, 3)):
            out = session.extend(tokens=tokens, depth=depth).readout()
        left = early_exit(model, x, tokens=8, width=12, confidence=2.0)
        ((columns, grid),) = GridPass(model, [at]).outputs(x)
        assert columns == (0,)
        for logits in (out.logits, left.logits, grid[:, 0]):
            assert error(logits, direct) < 0.03


@torch.no_grad()
def test_a_session_begun_by_autocast_goes_on_without_it(make_model, images):
    model = make_model()
    with autocast(CPU, torch.bfloat16):
        session = AnytimeSession(model, images, width=12).extend(tokens=4, depth=2)
    out = session.extend(tokens=8, depth=3).readout()
    assert out.logits.dtype == torch.float32
    assert error(out.logits, model(images, Configuration(8, 12, 3)).logits.double()) < 0.03


def test_signals_of_bfloat16_logits_are_those_of_the_same_numbers_in_float32():
    logits = (8 * torch.randn(50, 9, generator=torch.Generator().manual_seed(0))).bfloat16()
    with autocast(CPU, torch.bfloat16):
        found = signals(logits)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, signals(logits.float()), atol=0, rtol=0)


def test_a_training_step_by_autocast_leaves_float32_weights_and_gradients(make_model, images):
    model = copy.deepcopy(make_model()).train()
    with autocast(CPU, torch.bfloat16):
        loss = model(images, widths=[6, 12, 24, 24]).logits.float().square().mean()
    loss.backward()
    exact = torch.autograd.grad(
        model(images, widths=[6, 12, 24, 24]).logits.square().mean(), model.blocks[0].ffn.fc1.weight
    )
    rough = model.blocks[0].ffn.fc1.weight.grad
    assert rough.dtype == torch.float32
    assert 0 < error(rough, exact[0].double()) < 0.1


def test_float32_inside_another_autocast_is_float32():
    a = torch.randn(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with autocast(CPU, torch.float32):
            assert (a @ a).dtype == torch.float32


def test_a_device_without_autocast_runs_as_written():
    with as_written(torch.device("meta")):
        assert (torch.ones(2, 2, device="meta") @ torch.ones(2, 2, device="meta")).dtype == torch.float32
    assert wide(torch.ones(1, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("capability", "name", "expected"),
    [
        ((9, 0), "auto", torch.bfloat16),
        ((8, 0), "bfloat16", torch.bfloat16),
        ((7, 5), "auto", torch.float32),
        ((9, 0), "float32", torch.float32),
    ],
)
def test_what_a_name_means_on_cuda(monkeypatch, capability, name, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_dtype(name, CUDA) == expected


def test_bfloat16_that_a_device_has_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    with pytest.raises(UnavailableError, match="dtype bfloat16: cuda has none"):
        resolve_dtype("bfloat16", CUDA)


def test_what_a_name_means_on_cpu():
    assert resolve_dtype("auto", CPU) == torch.float32
    assert resolve_dtype("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(UsageError, match="dtype 'half': not known"):
        resolve_dtype("half", CPU)
    with pytest.raises(UsageError, match="float16"):
        autocast(CPU, torch.float16)
