"""Temperatures and biases per configuration, found again from data that were made with them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from adapcli.evaluation import recalibration as module
from adapcli.evaluation.effect import COLUMNS, Effect
from adapcli.evaluation.outcomes import outcomes
from adapcli.evaluation.recalibration import Recalibrated, fit
from policies.errors import FileError
from policies.table.recalibration import Recalibration

CPU = torch.device("cpu")


def drawn(n, temperature, bias, *, seed=0, scale=3.0):
    """Logits (n, C, K) of configurations whose true probabilities are softmax(logits / T + b); targets (n,).

    The targets are drawn by the first one's; the others have the same beliefs under other scales and biases.
    """
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(n, bias.shape[1], generator=generator, dtype=torch.float64) * scale
    targets = torch.multinomial(truth.softmax(-1), 1, generator=generator)[:, 0]
    logits = (truth[:, None] - torch.tensor(bias)) * torch.tensor(temperature)[:, None]
    return logits.float(), targets


def losses(logits, targets, recalibration=None):
    changed = logits if recalibration is None else apply(recalibration, logits)
    n, c, k = logits.shape
    flat = cross_entropy(changed.double().reshape(-1, k), targets.repeat_interleave(c), reduction="none")
    return flat.view(n, c).mean(0).numpy()


def apply(recalibration, logits):
    return Recalibrated.of(recalibration, CPU)(logits, range(logits.shape[1]))


def random_problem(n, c, k, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, c, k, generator=generator) * scale
    return logits, torch.randint(k, (n,), generator=generator)


problems = st.builds(
    random_problem,
    st.integers(2, 60),
    st.integers(1, 4),
    st.integers(2, 5),
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.1, 2.0, 50.0]),
)


def test_a_known_temperature_and_bias_are_found_again():
    temperature = np.array([0.5, 1.0, 2.5])
    bias = np.array([[0.0, 0.0, 0.0, 0.0], [1.0, 0.5, -0.5, -1.0], [-0.8, 0.0, 0.0, 0.8]])
    logits, targets = drawn(20_000, temperature, bias)
    found, spread = fit(logits, targets)
    assert spread >= 0.3
    np.testing.assert_allclose(found.temperature, temperature, rtol=0.03)
    np.testing.assert_allclose(found.bias, bias, atol=0.06)


def test_without_a_bias_in_the_data_none_to_speak_of_is_fitted():
    temperature = np.array([0.5, 3.0])
    logits, targets = drawn(4000, temperature, np.zeros((2, 6)))
    found, spread = fit(logits, targets)
    assert spread <= 0.1
    assert np.abs(found.bias).max() < 0.1
    np.testing.assert_allclose(found.temperature, temperature, rtol=0.06)


@settings(max_examples=40, deadline=None)
@given(problems)
def test_what_it_was_fitted_on_never_becomes_less_likely(problem):
    found, _ = fit(*problem)
    assert (losses(*problem, found) <= losses(*problem) + 1e-6).all()


@settings(max_examples=15, deadline=None)
@given(problems, st.floats(-100, 100))
def test_a_constant_added_to_an_answer_changes_nothing(problem, shift):
    logits, targets = problem
    each = shift * torch.arange(len(logits))[:, None, None] / len(logits)
    one, other = fit(logits.double(), targets), fit(logits.double() + each.double(), targets)
    assert one[1] == other[1]
    np.testing.assert_allclose(one[0].array(), other[0].array(), rtol=1e-3, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(problems, st.floats(0.05, 20))
def test_a_temperature_alone_changes_no_answer(problem, temperature):
    logits, targets = problem
    c, k = logits.shape[1:]
    change = Recalibration(np.full(c, temperature), np.zeros((c, k)))
    before, after = (outcomes(z, targets[:, None]) for z in (logits, apply(change, logits)))
    clear = logits.topk(2).values.diff(dim=-1).abs()[..., 0] > 1e-4 * logits.abs().amax(-1)
    assert torch.equal(before.prediction[clear], after.prediction[clear])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_identity_leaves_every_bit(dtype):
    logits, targets = random_problem(50, 3, 7, 0, 4.0)
    logits = logits.to(dtype)
    before = outcomes(logits, targets[:, None])
    after = outcomes(apply(Recalibration.identity(3, 7), logits), targets[:, None])
    for name, values in vars(before).items():
        assert torch.equal(values, getattr(after, name)), name


def test_each_configuration_has_its_own(monkeypatch):
    """Together or in blocks of one: the same; and applied to some columns, in any order, it is theirs."""
    temperature, bias = np.array([0.5, 2.0, 4.0]), np.random.default_rng(0).normal(0, 0.5, (3, 4))
    logits, targets = drawn(3000, temperature, bias)
    together, _ = fit(logits, targets)
    monkeypatch.setattr(module, "BLOCK_VALUES", 1)
    apart, _ = fit(logits, targets)
    np.testing.assert_allclose(together.array(), apart.array(), rtol=1e-5, atol=1e-5)
    change = Recalibrated.of(together, CPU)
    whole = change(logits, range(3))
    assert torch.equal(change(logits[:, [2, 0]], (2, 0)), whole[:, [2, 0]])
    assert torch.equal(change(logits[:, 1:2], (1,)), whole[:, 1:2])


def test_many_classes_and_few_samples_get_no_bias():
    logits, targets = drawn(600, np.array([2.0, 0.7]), np.zeros((2, 100)))
    found, spread = fit(logits, targets)
    assert spread == 0
    assert not found.bias.any()
    np.testing.assert_allclose(found.temperature, [2.0, 0.7], rtol=0.15)


def test_biases_that_help_nobody_else_are_held_back():
    """Samples enough per class, but no biases in them: what fits one half of them harms the other."""
    logits, targets = drawn(200, np.ones(3), np.zeros((3, 20)), scale=1.0)
    found, spread = fit(logits, targets)
    free = module._newton(logits, targets, module.SPREADS[-1])
    assert spread < 0.3
    assert np.abs(found.bias).max() < 0.2 < 0.5 < free.bias.abs().max()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_hardly_any_samples_are_no_reason_to_fail(n):
    logits, targets = random_problem(n, 2, 3, 0, 1.0)
    found, _ = fit(logits, targets)
    assert (losses(logits, targets, found) <= losses(logits, targets) + 1e-6).all()


def test_separable_and_constant_answers_stay_finite():
    right = 5 * torch.eye(3)[torch.arange(300) % 3]
    logits = torch.stack([right, -right, torch.zeros(300, 3)], dim=1)
    found, _ = fit(logits, torch.arange(300) % 3)
    assert np.isfinite(found.array()).all()
    assert (found.temperature >= 0.01).all()
    assert found.temperature[0] < 1 < found.temperature[1]


def test_the_effect_counts_what_it_says():
    targets = torch.tensor([0, 1, 1, 0])
    before = torch.tensor([[[2.0, 0.0]], [[1.0, 0.0]], [[0.0, 3.0]], [[0.0, 0.5]]])
    after = before + torch.tensor([0.0, 2.0])
    measured = [outcomes(z, targets[:, None]) for z in (before, after)]
    effect = Effect.measured("tune", [measured[0]], [measured[1]])
    halves = Effect.measured(
        "tune", *([outcomes(z[i : i + 2], targets[i : i + 2, None]) for i in (0, 2)] for z in (before, after))
    )
    columns = {name: float(values[0]) for name, values in effect.columns.items()}
    assert (columns["gained"], columns["lost"]) == (1, 0)  # the tie at (2, 2) goes to the first class
    assert (columns["accuracy_before"], columns["accuracy_after"]) == (0.5, 0.75)
    assert columns["nll_before"] == pytest.approx(losses(before, targets)[0])
    assert columns["nll_after"] == pytest.approx(losses(after, targets)[0])
    for name in COLUMNS:
        np.testing.assert_allclose(effect.columns[name], halves.columns[name])
    gain = effect.gain(0)
    differences = (measured[1].hit - measured[0].hit)[:, 0].numpy()
    assert gain.mean == differences.mean()
    assert gain.high - gain.mean == pytest.approx(1.96 * differences.std() / 2, rel=1e-3)


def test_an_effect_is_read_back_and_a_damaged_one_refused():
    logits, targets = random_problem(30, 2, 3, 0, 1.0)
    found = outcomes(logits, targets[:, None])
    effect = Effect.measured("tune", [found], [found])
    meta = {"recalibration": {"effect": effect.to_dict()}}
    again = Effect.of_meta(meta, 2, "here")
    assert again.to_dict() == effect.to_dict()
    assert Effect.of_meta({}, 2, "here") is None
    with pytest.raises(FileError, match="expected 3 finite numbers"):
        Effect.of_meta(meta, 3, "here")
    for damage in ({"columns": {}}, {"samples": "x"}, {"samples": 0}):
        broken = {"recalibration": {"effect": {**effect.to_dict(), **damage}}}
        with pytest.raises(FileError, match=r"here: recalibration\.effect"):
            Effect.of_meta(broken, 2, "here")
