"""Losses of maps equal slow loops, and all readouts of a pass are those of separate runs."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from adapcli.data.dense import IGNORE
from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from adapcli.training.dense import (
    depth_loss,
    log_error,
    multiscale_gradient,
    scale_invariant,
    segmentation_loss,
)
from adapcli.training.losses import Targets, depth_weights
from adapcli.training.objective import Pass, draw_passes, pass_losses
from adapcli.training.schema import Loss, Readouts, Stage

MODEL = {
    "embed_dim": 16, "num_heads": 2, "depth": 4, "max_latent_tokens": 4, "token_granularities": [1, 2, 4],
    "widths": [4, 8, 16], "image_size": 16, "patch_size": 8, "use_embed_ffn": False, "in_channels": 1,
    "layer_scale_init": 0.5, "token_init_std": 0.5, "output_feat_dim": 6,
}  # fmt: skip
TASKS = {
    "segmentation": {"task": "segmentation", "num_classes": 5, "decoder": "conv", "decoder_dim": 8},
    "depth": {"task": "depth", "num_bins": 8, "min_depth": 0.5, "max_depth": 10.0},
}
ALL = Stage(name="all", steps=1, axes=("tokens", "depth", "width"))


def maps(seed=0, shape=(3, 17, 13)):
    """Answers and targets in metres; a fifth of the targets unknown, some beyond the farthest."""
    rng = np.random.default_rng(seed)
    target = rng.uniform(0.5, 12, shape) * (rng.random(shape) > 0.2)
    return torch.from_numpy(rng.uniform(0.5, 12, shape)), torch.from_numpy(target)


def known_errors(metres, target, farthest):
    return {
        (b, y, x): math.log(float(metres[b, y, x]) + 0.001) - math.log(float(target[b, y, x]) + 0.001)
        for b, y, x in np.ndindex(*target.shape)
        if 0 < target[b, y, x] <= farthest
    }


def slow_scale_invariant(errors):
    values = list(errors.values())
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance + 0.15 * mean**2)


def slow_gradient(errors, shape):
    total = 0.0
    for stride in (1, 2, 4, 6):
        rows, columns = range(0, shape[1], stride), range(0, shape[2], stride)
        grid = {(b, i, j): errors.get((b, y, x)) for b in range(shape[0])
                for i, y in enumerate(rows) for j, x in enumerate(columns)}  # fmt: skip
        changes = [
            abs(grid[b, i, j] - other)
            for (b, i, j) in grid
            for other in (grid.get((b, i + 2, j)), grid.get((b, i, j + 2)))
            if grid[b, i, j] is not None and other is not None
        ]
        total += sum(changes) / sum(value is not None for value in grid.values())
    return total


@pytest.mark.parametrize("seed", range(5))
def test_the_depth_loss_equals_loops_over_pixels(seed):
    metres, target = maps(seed)
    errors = known_errors(metres, target, 10.0)
    expected = 2 * slow_scale_invariant(errors) + 0.5 * slow_gradient(errors, target.shape)
    assert float(depth_loss(metres, target, 10.0, 0.5)) == pytest.approx(expected, rel=1e-5)
    alone = 2 * slow_scale_invariant(errors)
    assert float(depth_loss(metres, target, 10.0, 0.0)) == pytest.approx(alone, rel=1e-5)


def test_gradients_of_the_depth_losses_are_right():
    metres, target = maps(7, (2, 15, 14))
    known = (target > 0) & (target <= 10)
    metres.requires_grad_()
    assert torch.autograd.gradcheck(lambda m: scale_invariant(log_error(m, target, known), known), metres)
    assert torch.autograd.gradcheck(lambda m: multiscale_gradient(log_error(m, target, known), known), metres)


def test_the_gradient_loss_looks_along_height_and_width_not_across_samples():
    """Errors that differ between samples alone cost nothing, errors that change within one do."""
    known = torch.ones(3, 12, 12, dtype=torch.bool)
    between = torch.tensor([0.0, 1.0, -2.0])[:, None, None].expand(3, 12, 12)
    assert float(multiscale_gradient(between, known)) == 0
    along_rows = torch.arange(12.0)[:, None].expand(3, 12, 12)
    down, right = multiscale_gradient(along_rows, known), multiscale_gradient(along_rows.mT, known)
    assert float(down) == pytest.approx(float(right))
    assert float(down) > 1


def test_maps_without_a_known_pixel_give_no_loss_and_no_gradient():
    metres = torch.full((1, 8, 8), 3.0, requires_grad=True)
    loss = depth_loss(metres, torch.zeros(1, 8, 8), 10.0, 0.5)
    loss.backward()
    assert loss.item() < 1e-5
    assert torch.equal(metres.grad, torch.zeros_like(metres))
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    nothing = segmentation_loss(logits, torch.full((1, 8, 8), IGNORE))
    nothing.backward()
    assert nothing.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_ignored_pixels_count_nowhere():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 5, 6, 7), torch.randint(5, (2, 6, 7))
    target[0, :3], target[1, :, 4:] = IGNORE, IGNORE
    rows = logits.permute(0, 2, 3, 1)[target != IGNORE]
    expected = cross_entropy(rows, target[target != IGNORE], label_smoothing=0.1)
    assert float(segmentation_loss(logits, target, 0.1)) == pytest.approx(float(expected), rel=1e-6)


def setting(task, samples=3):
    torch.manual_seed(0)
    model = AdaPerceiver(ModelConfig.from_dict({**MODEL, **TASKS[task]}))
    target = (
        torch.randint(5, (samples, 16, 16))
        if task == "segmentation"
        else maps(1, (samples, 16, 16))[1].float()
    )
    return model.train(), torch.randn(samples, 1, 16, 16), Targets(target)


def separately(model, x, targets, chosen, loss, readouts):
    """The loss of a pass, a run of its own for every readout."""

    def one(tokens, depth):
        answer = model(x, Configuration(tokens, chosen.configuration.width, depth), widths=chosen.widths).maps
        if model.config.task == "segmentation":
            return segmentation_loss(answer, targets.labels)
        return depth_loss(answer[:, 0], targets.labels, 10.0, loss.gradients)

    blocks = chosen.configuration.depth
    total = sum(one(t, blocks) for t in chosen.tokens) / len(chosen.tokens)
    weights = depth_weights(blocks, readouts.depth)[list(chosen.earlier)]
    for block, weight in zip(chosen.earlier, weights / weights.sum(), strict=True):
        for t in chosen.depth_tokens:
            total = total + readouts.depth_share * weight * one(t, block + 1) / len(chosen.depth_tokens)
    return total


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize(
    "readouts", [Readouts(), Readouts(tokens=2, blocks=2, depth_share=3), Readouts(depth="uniform")]
)
def test_all_readouts_of_a_pass_equal_separate_runs(task, readouts):
    model, x, targets = setting(task)
    loss = Loss()
    (chosen,) = draw_passes(model.config, ALL, readouts, len(x), seed=3, number=5)
    assert len(chosen.earlier) == (3 if readouts.blocks == "all" else 2)
    losses = pass_losses(model, x, targets, chosen, loss, readouts)
    losses.total.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    expected = separately(model, x, targets, chosen, loss, readouts)
    expected.backward()
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_drawn_blocks_follow_the_step_alone_and_are_all_drawn_in_time():
    config = ModelConfig.from_dict({**MODEL, **TASKS["depth"]})
    drawn = [draw_passes(config, ALL, Readouts(blocks=1), 2, seed=0, number=n)[0] for n in range(60)]
    again = [draw_passes(config, ALL, Readouts(blocks=1), 2, seed=0, number=n)[0] for n in range(60)]
    assert drawn == again
    assert {chosen.earlier for chosen in drawn} == {(0,), (1,), (2,)}


def test_classifiers_read_out_drawn_blocks_too():
    config = ModelConfig.from_dict({**MODEL, "output_feat_dim": None, "num_classes": 5})
    torch.manual_seed(0)
    model, x, targets = AdaPerceiver(config), torch.randn(4, 1, 16, 16), Targets(torch.arange(4))
    some = Pass(Configuration(4, 16, 4), None, (4,), (2,), (0, 2))
    found = pass_losses(model, x, targets, some, Loss(), Readouts())
    answers = [model(x, Configuration(2, 16, depth)).logits for depth in (1, 3)]
    expected = sum(
        weight * cross_entropy(answer, targets.labels)
        for weight, answer in zip((0.25, 0.75), answers, strict=True)
    )
    assert found.depth.item() == pytest.approx(expected.item(), rel=1e-5)
