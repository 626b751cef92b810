"""Signals and scores against torch's own functions in double precision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from adapcli.evaluation.outcomes import MAX_LOG_ODDS, SIGNAL_NAMES, outcomes, signals

sizes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(2, 12))


def logits_of(shape: tuple[int, ...], seed: int, scale: float) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(0, 1000), st.sampled_from([0.01, 1.0, 8.0]))
def test_signals_equal_their_definitions(shape, seed, scale):
    logits = logits_of(shape, seed, scale)
    p = logits.double().softmax(-1)
    first, second = p.topk(2).values.unbind(-1)
    entropy = torch.distributions.Categorical(probs=p).entropy()
    expected = torch.stack((first, first - second, entropy, first.logit(eps=1e-30)), -1)
    torch.testing.assert_close(signals(logits).double(), expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(0, 1000))
def test_outcomes_equal_torch(shape, seed):
    logits = logits_of(shape, seed, 3.0)
    targets = torch.randint(shape[-1], shape[:-1], generator=torch.Generator().manual_seed(seed))
    found = outcomes(logits, targets)
    assert torch.equal(found.prediction, logits.argmax(-1))
    assert torch.equal(found.hit, (logits.argmax(-1) == targets).float())
    nll = cross_entropy(logits.double().flatten(0, -2), targets.flatten(), reduction="none")
    torch.testing.assert_close(found.nll.double().flatten(), nll, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.signals, signals(logits))


def test_targets_broadcast_over_configurations():
    logits = logits_of((3, 7, 5), 0, 1.0)
    targets = torch.tensor([0, 1, 2])
    found = outcomes(logits, targets[:, None])
    assert torch.equal(found.hit, outcomes(logits, targets[:, None].expand(3, 7)).hit)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_half_precision_is_scored_in_single(dtype):
    found = signals(logits_of((4, 6), 1, 2.0).to(dtype))
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("logits", [[[1000.0, -1000.0]], [[0.0]], [[5.0, 5.0]], [[3e38, -3e38, 0.0]]])
def test_extreme_logits_stay_finite(logits):
    found = outcomes(torch.tensor(logits), torch.tensor([0]))
    assert torch.isfinite(found.signals).all()
    assert torch.isfinite(found.nll).all()


def test_log_odds_tell_sure_from_very_sure():
    found = signals(torch.tensor([[40.0, 0.0], [60.0, 0.0], [200.0, 0.0]]))
    assert (found[:, SIGNAL_NAMES.index("confidence")] == 1).all()
    assert found[:, SIGNAL_NAMES.index("log_odds")].tolist() == pytest.approx([40, 60, MAX_LOG_ODDS])


def test_signals_of_a_uniform_answer():
    values = dict(zip(SIGNAL_NAMES, signals(torch.zeros(10)).tolist(), strict=True))
    expected = {"confidence": 0.1, "margin": 0.0, "entropy": math.log(10), "log_odds": -math.log(9)}
    assert values == pytest.approx(expected, abs=1e-6)
