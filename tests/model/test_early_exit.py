"""Stopping where the answer is confident, sample by sample or batch by batch."""

import itertools

import pytest
import torch

from adapcli.errors import UsageError
from adapcli.model.early_exit import early_exit
from adapcli.space import Configuration

CLOSE = {"atol": 2e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(depth=5)


@pytest.fixture(scope="module")
def batch():
    return torch.randn(12, 1, 12, 12, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def confidences(model, x, tokens, width):
    """Max softmax after each block, each depth run on its own: (L, B)."""
    runs = [model(x, Configuration(tokens, width, d)).logits for d in range(1, model.config.depth + 1)]
    return torch.stack([logits.softmax(-1).amax(-1) for logits in runs])


def between(confidence):
    """A threshold at which some samples stop at once and others do not, well away from every confidence."""
    values = confidence.flatten().sort().values
    first = confidence[0].min(), confidence[0].max()
    inside = [i for i in range(len(values) - 1) if first[0] <= values[i] < first[1]]
    best = max(inside, key=lambda i: (values[i + 1] - values[i]).item())
    assert values[best + 1] - values[best] > 1e-3
    return (values[best] + values[best + 1]).item() / 2


@pytest.mark.parametrize(("tokens", "width"), [(2, 6), (4, 12), (8, 24), (3, 24), (11, 24)])
@torch.no_grad()
def test_each_sample_stops_at_its_first_confident_depth_with_that_depths_answer(model, batch, tokens, width):
    seen = confidences(model, batch, tokens, width)
    threshold = between(seen)
    out = early_exit(model, batch, tokens=tokens, width=width, confidence=threshold)
    depth = [next((d for d, c in enumerate(column, 1) if c >= threshold), 5) for column in seen.T.tolist()]
    assert out.depth.tolist() == depth
    assert len(set(depth)) > 1
    for i, d in enumerate(depth):
        direct = model(batch[i : i + 1], Configuration(tokens, width, d)).logits
        torch.testing.assert_close(out.logits[i : i + 1], direct, **CLOSE)


@torch.no_grad()
def test_a_sample_in_a_batch_exits_as_it_does_alone(model, batch):
    threshold = between(confidences(model, batch, 4, 24))
    together = early_exit(model, batch, tokens=4, width=24, confidence=threshold)
    for i in range(len(batch)):
        alone = early_exit(model, batch[i : i + 1], tokens=4, width=24, confidence=threshold)
        assert alone.depth.item() == together.depth[i].item()
        torch.testing.assert_close(alone.logits[0], together.logits[i], **CLOSE)


@torch.no_grad()
def test_a_batch_stops_where_its_mean_confidence_does(model, batch):
    mean = confidences(model, batch, 4, 24).mean(1)
    for threshold in (mean.min().item() - 0.01, mean.median().item() + 1e-4, mean.max().item() + 0.01):
        depth = next((d for d, c in enumerate(mean.tolist(), 1) if c >= threshold), 5)
        out = early_exit(model, batch, tokens=4, width=24, confidence=threshold, per="batch")
        assert out.depth.tolist() == [depth] * len(batch)
        torch.testing.assert_close(out.logits, model(batch, Configuration(4, 24, depth)).logits, **CLOSE)


def test_a_batch_of_one_exits_the_same_in_both_forms(model, batch):
    for threshold in (0.2, 0.4, 0.6, 0.9):
        a, b = (
            early_exit(model, batch[:1], tokens=8, width=24, confidence=threshold, per=per)
            for per in ("sample", "batch")
        )
        assert torch.equal(a.depth, b.depth)
        assert torch.equal(a.logits, b.logits)


def test_the_ends_of_the_scale(model, batch):
    first = early_exit(model, batch, tokens=4, width=24, confidence=0.0)
    last = early_exit(model, batch, tokens=4, width=24, confidence=1.1)
    assert set(first.depth.tolist()) == {1}
    assert set(last.depth.tolist()) == {5}
    torch.testing.assert_close(last.logits, model(batch, Configuration(4, 24, 5)).logits, **CLOSE)


def test_a_higher_threshold_never_stops_earlier(model, batch):
    depths = [
        early_exit(model, batch, tokens=4, width=24, confidence=c).depth for c in (0.2, 0.3, 0.5, 0.7, 0.95)
    ]
    assert all((a <= b).all() for a, b in itertools.pairwise(depths))


def test_stopped_samples_run_no_further_blocks(model, batch):
    sizes = []
    hooks = [b.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0]))) for b in model.blocks]
    try:
        threshold = between(confidences(model, batch, 4, 24))
        sizes.clear()
        out = early_exit(model, batch, tokens=4, width=24, confidence=threshold)
    finally:
        for hook in hooks:
            hook.remove()
    assert sizes == [(out.depth > d).sum().item() for d in range(len(sizes))]


def test_the_distillation_model_exits_by_its_logits(make_model, batch):
    out = early_exit(make_model(task="distillation"), batch, tokens=4, width=24, confidence=0.4)
    assert out.logits.shape == (12, 5)


@pytest.mark.parametrize("task", ["features", "segmentation", "depth"])
def test_models_without_logits_are_refused(make_model, batch, task):
    with pytest.raises(UsageError, match=task):
        early_exit(make_model(task=task), batch, tokens=4, width=24, confidence=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per": "samples"}, "per"),
        ({"confidence": float("nan")}, "confidence"),
        ({"tokens": 0}, "tokens 0"),
        ({"width": 99}, "width 99"),
    ],
)
def test_wrong_arguments_are_refused(model, batch, options, message):
    with pytest.raises(UsageError, match=message):
        early_exit(model, batch, **({"tokens": 4, "width": 24, "confidence": 0.5} | options))
