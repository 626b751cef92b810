"""In-place distillation: readouts of one pass learn from the next larger ones, and nobody else is asked."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, softmax

from adapcli.errors import UsageError
from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from adapcli.training.dryrun import plan
from adapcli.training.losses import Targets, depth_weights, judged_in_place
from adapcli.training.objective import draw_passes, pass_losses
from adapcli.training.recipe import load_recipe
from adapcli.training.run import train
from adapcli.training.schema import Loss, Readouts, Stage

MODEL = {
    "embed_dim": 16, "num_heads": 2, "depth": 3, "max_latent_tokens": 4, "token_granularities": [1, 2, 4],
    "widths": [4, 8, 16], "image_size": 16, "patch_size": 8, "use_embed_ffn": False,
}  # fmt: skip
CONFIG = ModelConfig.from_dict({**MODEL, "num_classes": 5, "in_channels": 1})
LOSS = Loss(labels=0.3, distillation=0.7)
SMALL = (
    "batch=8", "model.embed_dim=16", "model.depth=2", "model.max_latent_tokens=4", "evaluate_samples=8",
    "model.token_granularities=[1, 2, 4]", "model.widths=[4, 16]", "readouts.token_weights=[3, 1, 1]",
    "stages.0.steps=2", "stages.1.steps=2",
)  # fmt: skip


def one_by_one(logits: torch.Tensor, labels: torch.Tensor, loss: Loss) -> torch.Tensor:
    """(L, G), from the definition, sample by sample."""
    blocks, granularities = logits.shape[1:3]
    found, t = torch.zeros(blocks, granularities), loss.temperature
    for block in range(blocks):
        for g in range(granularities):
            last = (block, g) == (blocks - 1, granularities - 1)
            teacher = logits[:, min(block + 1, blocks - 1), min(g + 1, granularities - 1)].detach()
            for own, larger, label in zip(logits[:, block, g], teacher, labels, strict=True):
                wrong = cross_entropy(own, label)
                p, q = softmax(larger / t, -1), softmax(own / t, -1)
                apart = t**2 * (p * (p / q).log()).sum()
                share = loss.labels * wrong + loss.distillation * (wrong if last else apart)
                found[block, g] += share / len(labels)
    return found


@settings(max_examples=25, deadline=None)
@given(
    blocks=st.integers(1, 3),
    granularities=st.integers(1, 3),
    temperature=st.sampled_from([1.0, 2.5]),
    seed=st.integers(0, 99),
)
def test_it_is_its_definition(blocks: int, granularities: int, temperature: float, seed: int):
    torch.manual_seed(seed)
    logits, labels = torch.randn(4, blocks, granularities, 5), torch.randint(5, (4,))
    loss = Loss(labels=0.3, distillation=0.7, temperature=temperature)
    expected = one_by_one(logits, labels, loss)
    torch.testing.assert_close(judged_in_place(logits, labels, loss), expected, rtol=1e-4, atol=1e-5)


def test_a_teacher_is_not_moved_by_its_pupils():
    logits = torch.randn(4, 3, 3, 5, requires_grad=True)
    judged_in_place(logits, torch.arange(4), LOSS)[0, 0].backward()
    assert logits.grad is not None
    assert logits.grad[:, 0, 0].abs().min() > 0
    logits.grad[:, 0, 0] = 0
    assert not logits.grad.any()


@pytest.mark.parametrize("axes", [("tokens", "depth", "width"), ("tokens",), ("depth",), ()])
def test_a_step_equals_separate_runs_of_its_configurations(axes: tuple):
    torch.manual_seed(0)
    model, x, labels = AdaPerceiver(CONFIG), torch.randn(6, 1, 16, 16), torch.arange(6) % 5
    readouts = Readouts(depth="uniform", depth_tokens="all", depth_share=2.0, token_weights=(3, 1, 1))
    stage = Stage(name="any", steps=1, axes=axes)
    (chosen,) = draw_passes(CONFIG, stage, readouts, 6, seed=1, number=2)
    found = pass_losses(model, x, Targets(labels, in_place=True), chosen, LOSS, readouts)
    depths = (1, 2, 3) if "depth" in axes else (3,)
    rows = [
        torch.stack(
            [model(x, Configuration(t, 16, d), widths=chosen.widths).logits for t in chosen.tokens], 1
        )
        for d in depths
    ]
    losses = one_by_one(torch.stack(rows, 1).detach(), labels, LOSS)
    weights = torch.tensor([{1: 3.0, 2: 1.0, 4: 1.0}[t] for t in chosen.tokens])
    per_depth = losses @ (weights / weights.sum())
    total = per_depth[-1] + 2.0 * depth_weights(len(depths), "uniform") @ per_depth[:-1]
    torch.testing.assert_close(found.total.detach(), total, rtol=1e-4, atol=1e-5)


def test_the_packaged_recipe_asks_no_teacher_and_resumes_bit_for_bit(tmp_path: Path):
    class Stop(BaseException):
        """Stands for a crash."""

    def crash(done: int, total: int, note: str = "") -> None:
        if done == 3:
            raise Stop

    chosen = load_recipe("digits", (*SMALL, "save_every=1"))
    assert chosen.in_place
    whole = train(chosen, tmp_path / "whole", test_samples=8).model.state_dict()
    with pytest.raises(Stop):
        train(chosen, tmp_path / "cut", test_samples=8, progress=crash)
    cut = train(chosen, tmp_path / "cut", resume=True, test_samples=8).model.state_dict()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert plan(chosen).notes == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["readouts.depth_tokens=random"], "needs readouts.tokens, depth_tokens and blocks: all"),
        (["readouts.tokens=2"], "needs readouts.tokens, depth_tokens and blocks: all"),
        (["teacher.at={tokens: 1}"], "teacher.at: in-place has a teacher at every configuration"),
        (["loss.features=1"], "in-place gives no features"),
    ],
)
def test_what_cannot_teach_in_place_is_refused(changes: list, told: str):
    with pytest.raises(UsageError, match=told):
        load_recipe("digits", changes)
