"""How answers are judged equals plain torch, term by term."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, kl_div, log_softmax, one_hot, smooth_l1_loss, softmax

from adapcli.training.losses import Answer, Targets, feature_distance, judged
from adapcli.training.schema import Loss


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SEEDS = st.integers(0, 10_000)
SIZES = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(2, 6))


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, sizes=SIZES, smoothing=st.floats(0, 0.9), weight=st.floats(0.1, 10))
def test_labels_are_judged_by_cross_entropy_per_readout(seed, sizes, smoothing, weight):
    logits, labels = random(seed, *sizes), torch.arange(sizes[0]) % sizes[2]
    loss = Loss(labels=weight, label_smoothing=smoothing)
    found = judged(logits, Targets(labels), loss)
    for readout in range(sizes[1]):
        smooth = (1 - smoothing) * one_hot(labels, sizes[2]) + smoothing / sizes[2]
        by_hand = -(smooth * log_softmax(logits[:, readout], -1)).sum(-1).mean()
        torch.testing.assert_close(found[readout], weight * by_hand)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, sizes=SIZES, smoothing=st.floats(0, 0.5))
def test_labels_and_shares_that_say_the_same_are_judged_alike(seed, sizes, smoothing):
    logits, labels = random(seed, *sizes), torch.arange(sizes[0]) % sizes[2]
    loss = Loss(label_smoothing=smoothing)
    shares = one_hot(labels, sizes[2]).float()
    torch.testing.assert_close(judged(logits, Targets(labels), loss), judged(logits, Targets(shares), loss))


def test_shares_are_judged_in_proportion():
    logits, labels, others = random(0, 4, 3, 5), torch.arange(4), torch.arange(4) + 1
    shares = 0.3 * one_hot(labels, 5) + 0.7 * one_hot(others, 5)
    apart = [judged(logits, Targets(chosen), Loss()) for chosen in (labels, others)]
    torch.testing.assert_close(judged(logits, Targets(shares), Loss()), 0.3 * apart[0] + 0.7 * apart[1])


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, sizes=SIZES, temperature=st.floats(0.5, 10), weight=st.floats(0.1, 10))
def test_distillation_is_the_softened_divergence_from_the_teacher(seed, sizes, temperature, weight):
    logits, teacher = random(seed, *sizes), 3 * random(seed + 1, sizes[0], sizes[2])
    loss = Loss(labels=0, distillation=weight, temperature=temperature)
    found = judged(logits, Targets(torch.zeros(sizes[0]), Answer(teacher)), loss)
    for readout in range(sizes[1]):
        student = log_softmax(logits[:, readout] / temperature, -1)
        by_hand = kl_div(student, softmax(teacher / temperature, -1), reduction="batchmean")
        torch.testing.assert_close(found[readout], weight * temperature**2 * by_hand, atol=1e-5, rtol=1e-4)
    assert (found >= -1e-5).all()


def test_a_student_that_answers_as_its_teacher_has_nothing_to_learn():
    teacher = random(0, 4, 7)
    loss = Loss(labels=0, distillation=1, temperature=4.0)
    logits = (teacher[:, None].repeat(1, 3, 1) + 5).requires_grad_()  # softmax does not see a shift
    found = judged(logits, Targets(torch.zeros(4), Answer(teacher)), loss)
    torch.testing.assert_close(found, torch.zeros(3), atol=1e-5, rtol=0)
    found.sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros(4, 3, 7), atol=1e-5, rtol=0)


def test_gradients_keep_their_size_at_high_temperatures():
    """They tend to (student - teacher) / (K B), logits centred (arXiv 1503.02531, equation 4)."""
    teacher, student = random(0, 4, 7), random(1, 4, 1, 7)

    def gradient(temperature):
        logits = student.clone().double().requires_grad_()
        loss = Loss(labels=0, distillation=1, temperature=temperature)
        judged_by = Targets(torch.zeros(4), Answer(teacher))
        judged(logits, judged_by, loss).sum().backward()
        return logits.grad[:, 0].float()

    centred = (student[:, 0] - student[:, 0].mean(-1, keepdim=True)) - (
        teacher - teacher.mean(-1, keepdim=True)
    )
    torch.testing.assert_close(gradient(100.0), centred / 7 / 4, atol=2e-3, rtol=0.05)
    assert 0.5 < gradient(100.0).norm() / gradient(2.0).norm() < 2


def test_parts_add_up():
    logits, labels = random(0, 4, 3, 5), torch.arange(4)
    targets = Targets(labels, Answer(random(1, 4, 5)))
    both = judged(logits, targets, Loss(labels=2, distillation=3))
    parts = judged(logits, targets, Loss(labels=2)), judged(logits, targets, Loss(labels=0, distillation=3))
    torch.testing.assert_close(both, parts[0] + parts[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_logits_are_judged_in_float32(dtype):
    logits, labels = random(0, 4, 3, 5).to(dtype), torch.arange(4)
    found = judged(logits, Targets(labels), Loss())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0], cross_entropy(logits[:, 0].float(), labels))


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, cosine=st.floats(0, 1), size=st.tuples(st.integers(1, 4), st.integers(1, 5)))
def test_features_are_judged_by_angle_and_by_distance(seed, cosine, size):
    student, teacher = random(seed, *size, 6), 2 * random(seed + 1, *size, 6)
    norms = student.norm(dim=-1) * teacher.norm(dim=-1)
    angle = 1 - ((student * teacher).sum(-1) / norms).mean()
    by_hand = cosine * angle + (1 - cosine) * smooth_l1_loss(student, teacher)
    torch.testing.assert_close(feature_distance(student, teacher, cosine), by_hand)


def test_equal_features_are_no_distance_apart_and_scale_is_not_an_angle():
    features = random(0, 2, 4, 6)
    torch.testing.assert_close(
        feature_distance(features, features, 0.9), torch.tensor(0.0), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        feature_distance(features, 5 * features, 1.0), torch.tensor(0.0), atol=1e-6, rtol=0
    )
    assert feature_distance(features, 5 * features, 0.0) > 0.1
