"""A training run: resumable bit for bit, deterministic, and unharmed by interruptions."""

import json
from pathlib import Path

import pytest
import torch

from adapcli.errors import AdapError, FileError
from adapcli.model.checkpoint import load
from adapcli.space import Configuration
from adapcli.training.feed import Endless
from adapcli.training.loop import Trainer
from adapcli.training.losses import Targets
from adapcli.training.objective import draw_passes, pass_losses
from adapcli.training.optimisation import learning_rate
from adapcli.training.recipe import load_recipe
from adapcli.training.run import train
from adapcli.training.schema import Recipe
from adapcli.training.source import open_source
from adapcli.training.start import start

MODEL = {
    "embed_dim": 16,
    "num_heads": 2,
    "depth": 2,
    "max_latent_tokens": 4,
    "token_granularities": [1, 2, 4],
    "widths": [8, 16],
    "image_size": 32,
    "patch_size": 8,
    "use_embed_ffn": False,
    "layer_scale_init": 0.5,
    "token_init_std": 0.5,
}


def recipe(**changes) -> Recipe:
    stages = [{"name": "full", "steps": 3}, {"name": "all", "steps": 5, "axes": ["tokens", "depth", "width"]}]
    values = {
        "name": "tiny",
        "model": MODEL,
        "batch": 8,
        "stages": stages,
        "log_every": 2,
        "evaluate_every": 4,
        "evaluate_samples": 32,
        "save_every": 2,
    }
    return Recipe(**{**values, **changes})


class Stop(BaseException):
    """Stands for Ctrl-C at a chosen moment."""


def stop_after(step: int):
    def progress(done: int, total: int, note: str = "") -> None:
        if done == step:
            raise Stop

    return progress


@pytest.mark.parametrize("step", [1, 3, 5, 7])
def test_a_run_interrupted_anywhere_and_resumed_equals_an_uninterrupted_one(tmp_path: Path, step: int):
    train(recipe(), tmp_path / "whole", test_samples=32)
    with pytest.raises(Stop):
        train(recipe(), tmp_path / "cut", test_samples=32, progress=stop_after(step))
    train(recipe(), tmp_path / "cut", resume=True, test_samples=32)
    whole, cut = load(tmp_path / "whole/model.pt").state_dict(), load(tmp_path / "cut/model.pt").state_dict()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == [
        json.loads(line)["step"] for line in logs[1].splitlines()
    ]


def test_the_time_before_an_interruption_counts(tmp_path: Path):
    longer = recipe(stages=[{"name": "full", "steps": 40}], save_every=40)
    first = train(longer, tmp_path, test_samples=32).metrics["seconds"]
    assert train(longer, tmp_path, resume=True, test_samples=32).metrics["seconds"] == first > 0


def test_the_checkpoint_carries_what_is_needed_to_use_it(tmp_path: Path):
    trained = train(recipe(), tmp_path / "run", test_samples=40)
    model = load(trained.checkpoint)
    assert model.class_names == tuple("0123456789")
    assert model.preprocessing.size == 32
    assert trained.metrics["samples"] == 40
    assert len(trained.metrics["grid"]) == len(model.config.space)
    assert model(torch.randn(2, 1, 32, 32), Configuration(1, 8, 1)).logits.shape == (2, 10)


def test_training_learns(tmp_path: Path):
    stages = [{"name": "full", "steps": 60}]
    fast = {"learning_rate": 3e-3, "warmup_steps": 10, "ema_decay": 0.9}
    train(recipe(stages=stages, batch=64, optimiser=fast, log_every=10), tmp_path, test_samples=64)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] - 0.02


def test_a_step_runs_where_the_model_is(tmp_path: Path):
    chosen = recipe()
    model = start(chosen, open_source(chosen)).model.to("meta")  # any device but the data's own
    targets = Targets(torch.zeros(4, dtype=torch.int64, device="meta"))
    (only,) = draw_passes(model.config, chosen.stages[-1], chosen.readouts, 4, seed=0, number=0)
    losses = pass_losses(
        model, torch.zeros(4, 1, 32, 32, device="meta"), targets, only, chosen.loss, chosen.readouts
    )
    assert losses.total.device.type == "meta"


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_state(tmp_path: Path):
    wild = recipe(optimiser={"learning_rate": 1.0, "warmup_steps": 0, "clip_norm": 1e30}, save_every=1)
    model = start(wild, open_source(wild)).model
    with pytest.raises(AdapError, match="the loss became nan at step"):
        poison_after(model, wild, tmp_path, 2)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())


def preprocessing():
    from adapcli.model.preprocessing import Preprocessing

    return Preprocessing(32, 32, (0.15,), (0.25,))


def spec():
    from adapcli.data.scenes import SceneSpec

    return SceneSpec().at(32)


def poison_after(model, chosen: Recipe, folder: Path, step: int) -> None:
    """Train with data whose images turn into NaN after `step` steps."""
    from adapcli.data.dataset import Batch
    from adapcli.data.digits import DigitsDataset

    data = DigitsDataset("train", preprocessing(), size=10_000, spec=spec())

    class Poisoned(Endless):
        def batch(self, number: int) -> Batch:
            batch = super().batch(number)
            return batch if number < step else Batch(batch.images * float("nan"), batch.targets, [])

    Trainer(chosen, model, Poisoned(data, chosen.batch), folder, lambda _: {}).run()


def test_resuming_with_another_recipe_is_refused_and_names_the_difference(tmp_path: Path):
    with pytest.raises(Stop):
        train(recipe(), tmp_path, progress=stop_after(4))
    with pytest.raises(FileError, match="batch differ"):
        train(recipe(batch=16), tmp_path, resume=True)


def test_a_foreign_state_is_not_executed(tmp_path: Path):
    import pickle

    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"format": Payload()}, tmp_path / "state.pt", pickle_module=pickle)
    with pytest.raises(FileError, match="nothing was run"):
        train(recipe(), tmp_path, resume=True)
    assert not (tmp_path / "executed").exists()


def test_a_step_draws_from_its_number_alone_and_only_what_its_stage_adapts():
    chosen = recipe()
    config = start(chosen, open_source(chosen)).model.config
    full, joint = chosen.stages

    def drawn(stage, number):
        return draw_passes(config, stage, chosen.readouts, 64, seed=0, number=number)

    (alone,) = drawn(full, 5)
    assert (alone.widths, alone.tokens, alone.depth_tokens) == (None, (4,), ())
    draws = [drawn(joint, number)[0] for number in range(50)]
    assert draws[7] == drawn(joint, 7)[0]
    assert {draw.depth_tokens for draw in draws} == {(1,), (2,), (4,)}
    assert {draw.tokens for draw in draws} == {(1, 2, 4)}
    share = sum(draw.widths.count(8) for draw in draws) / (64 * 50)
    assert 0.45 < share < 0.55


def test_the_learning_rate_warms_up_and_decays_to_its_final_share():
    chosen = recipe(optimiser={"warmup_steps": 2, "final_share": 0.1})
    rates = [learning_rate(step, chosen) / chosen.optimiser.learning_rate for step in range(9)]
    assert rates[0] < rates[1] > rates[-1]
    assert rates[-1] == pytest.approx(0.1)


def test_the_packaged_recipes_are_valid():
    for name in ("digits", "digits-quick"):
        assert load_recipe(name).name == name
