"""Whatever a recipe reads out, its loss and gradients are those of separate runs of the configurations."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from adapcli.training.loop import Trainer
from adapcli.training.losses import Targets, depth_weights, judged
from adapcli.training.objective import Pass, draw_passes, pass_losses
from adapcli.training.schema import Loss, Readouts, Recipe, Stage
from adapcli.training.source import open_source
from adapcli.training.start import start

MODEL = {
    "embed_dim": 16, "num_heads": 2, "depth": 3, "max_latent_tokens": 4, "token_granularities": [1, 2, 4],
    "widths": [4, 8, 16], "image_size": 16, "patch_size": 8, "use_embed_ffn": False,
    "layer_scale_init": 0.5, "token_init_std": 0.5,
}  # fmt: skip
CONFIG = ModelConfig.from_dict({**MODEL, "num_classes": 5, "in_channels": 1})
ALL = Stage(name="all", steps=1, axes=("tokens", "depth", "width"))
LOSS = Loss(label_smoothing=0.1)


def setting(samples: int = 6) -> tuple[AdaPerceiver, Tensor, Targets]:
    torch.manual_seed(0)
    return AdaPerceiver(CONFIG), torch.randn(samples, 1, 16, 16), Targets(torch.arange(samples) % 5)


def separately(
    model: AdaPerceiver, x: Tensor, targets: Targets, chosen: Pass, loss: Loss, readouts: Readouts
) -> Tensor:
    """The loss of a pass, a run of its own for every readout."""
    weights = dict(zip((1, 2, 4), readouts.token_weights or (1.0,) * 3, strict=True))

    def over(tokens: tuple[int, ...], depth: int) -> Tensor:
        sums = x.new_zeros(())
        for t in tokens:
            c = Configuration(t, chosen.configuration.width, depth)
            logits = model(x, c, widths=chosen.widths).logits
            sums = sums + weights[t] * judged(logits[:, None], targets, loss)[0]
        return sums / sum(weights[t] for t in tokens)

    total, blocks = over(chosen.tokens, chosen.configuration.depth), chosen.configuration.depth
    if chosen.depth_tokens:
        for depth, share in zip(range(1, blocks), depth_weights(blocks, readouts.depth), strict=True):
            total = total + readouts.depth_share * share * over(chosen.depth_tokens, depth)
    return total


def gradients(model: AdaPerceiver) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=tolerance)


OPTIONS = st.fixed_dictionaries(
    {
        "tokens": st.sampled_from(["all", 1, 2]),
        "token_weights": st.sampled_from([None, (1.0, 0.5, 3.0)]),
        "depth": st.sampled_from(["linear", "uniform"]),
        "depth_tokens": st.sampled_from(["random", "all"]),
        "depth_share": st.sampled_from([0.0, 1.0, 0.3]),
        "width": st.sampled_from(["implicit", "explicit", "sandwich"]),
    }
)
AXES = st.sets(st.sampled_from(["tokens", "depth", "width"]))


@settings(max_examples=30, deadline=None)
@given(options=OPTIONS, axes=AXES, number=st.integers(0, 1000))
def test_every_choice_of_readouts_equals_separate_runs(options: dict, axes: set, number: int):
    model, x, targets = setting()
    readouts, stage = Readouts(**options), Stage(name="x", steps=1, axes=tuple(sorted(axes)))
    passes = draw_passes(CONFIG, stage, readouts, len(x), seed=3, number=number)
    for chosen in passes:
        losses = pass_losses(model, x, targets, chosen, LOSS, readouts)
        torch.testing.assert_close(losses.total, separately(model, x, targets, chosen, LOSS, readouts))


@pytest.mark.parametrize(
    ("width", "expected"), [("explicit", {(4, 8, 16)}), ("sandwich", {(4, 16), (4, 8, 16)})]
)
def test_width_by_loss_terms_runs_whole_batches_at_widths(width: str, expected: set):
    drawn = [draw_passes(CONFIG, ALL, Readouts(width=width), 6, seed=0, number=n) for n in range(40)]
    assert {tuple(p.configuration.width for p in passes) for passes in drawn} == expected
    assert all(p.widths is None for passes in drawn for p in passes)
    # The rest is drawn once a step: widths are compared with each other on the same readouts.
    assert all(len({(p.tokens, p.depth_tokens) for p in passes}) == 1 for passes in drawn)


def trainer(folder: Path, **changes) -> Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "name": "tiny",
        "model": MODEL,
        "batch": 8,
        "stages": [ALL.model_dump()],
        "loss": LOSS.model_dump(),
    }
    recipe = Recipe(**{**values, **changes})
    source = open_source(recipe)
    model = start(recipe, source).model
    with source.feed(recipe, model.preprocessing) as feed:
        return Trainer(recipe, model, feed, folder, lambda model: {})


def step_gradients(made: Trainer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Those that the first step takes, before they are clipped."""
    found: dict[str, Tensor] = {}

    def step() -> float:
        found.update(gradients(made.model))
        return 0.0

    monkeypatch.setattr(made.optimisation, "step", step)
    made.one_step()
    return found


@pytest.mark.parametrize("width", ["explicit", "sandwich"])
def test_a_steps_gradient_is_the_mean_over_widths_of_separate_runs(tmp_path: Path, monkeypatch, width: str):
    readouts = Readouts(width=width)
    made = trainer(tmp_path, readouts=readouts.model_dump())
    found = step_gradients(made, monkeypatch)
    batch, config = made.data.batch(0), made.model.config
    passes = draw_passes(config, ALL, readouts, 8, seed=0, number=0)
    targets = Targets(batch.targets)
    made.model.zero_grad()
    for chosen in passes:
        (separately(made.model, batch.images, targets, chosen, LOSS, readouts) / len(passes)).backward()
    close(found, gradients(made.model))


def test_accumulating_two_batches_equals_one_of_twice_the_size(tmp_path: Path, monkeypatch):
    fixed = {"readouts": {"width": "explicit", "depth_tokens": "all"}}  # nothing is drawn at random
    twice = step_gradients(trainer(tmp_path / "a", batch=16, accumulate=2, **fixed), monkeypatch)
    once = step_gradients(trainer(tmp_path / "b", batch=32, **fixed), monkeypatch)
    close(twice, once)
    half = step_gradients(trainer(tmp_path / "c", batch=16, **fixed), monkeypatch)
    assert any(not torch.allclose(half[name], once[name], rtol=1e-2) for name in once)


@pytest.mark.parametrize("width", ["implicit", "explicit"])
def test_checkpointing_changes_no_bit(tmp_path: Path, monkeypatch, width: str):
    chosen = {"readouts": {"width": width}}
    plain = step_gradients(trainer(tmp_path / "a", **chosen), monkeypatch)
    saved = step_gradients(trainer(tmp_path / "b", checkpointing=True, **chosen), monkeypatch)
    assert plain.keys() == saved.keys()
    assert all(torch.equal(plain[name], saved[name]) for name in plain)


def test_labels_that_share_an_image_weigh_their_losses():
    model, x, _ = setting()
    shares = torch.rand(6, 5).softmax(-1)
    chosen = Pass(model.full_configuration, None, (1, 2, 4), (2,))
    total = pass_losses(model, x, Targets(shares), chosen, Loss(), Readouts()).total
    expected = torch.zeros(())
    for label in range(5):
        targets = Targets(torch.full((6,), label))
        each = [  # one sample at a time, since shares differ between them
            pass_losses(model, x[[i]], Targets(targets.labels[[i]]), chosen, Loss(), Readouts()).total
            for i in range(6)
        ]
        expected = expected + (shares[:, label] * torch.stack(each)).mean()
    torch.testing.assert_close(total, expected)
