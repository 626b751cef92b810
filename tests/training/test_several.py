"""Training by several processes is training by one: same samples, same draws, same gradients, to rounding."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from adapcli.data.dataset import Batch
from adapcli.distributed.group import ALONE
from adapcli.distributed.launch import LostError
from adapcli.errors import AdapError, UsageError
from adapcli.model.checkpoint import load
from adapcli.training.feed import Endless
from adapcli.training.losses import Targets
from adapcli.training.objective import draw_passes, pass_losses
from adapcli.training.optimisation import Optimisation
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
    "image_size": 16,
    "patch_size": 8,
    "use_embed_ffn": False,
    "layer_scale_init": 0.5,
    "token_init_std": 0.5,
}
AXES = ["tokens", "depth", "width"]
SHALLOW = [{"name": "shallow", "steps": 2, "at": {"depth": 1}}, {"name": "all", "steps": 2, "axes": AXES}]


def recipe(**changes) -> Recipe:
    values = {
        "name": "tiny",
        "model": MODEL,
        "batch": 8,
        "stages": [{"name": "all", "steps": 4, "axes": AXES}],
        "optimiser": {"learning_rate": 1e-3, "warmup_steps": 1, "clip_norm": 0.1, "ema_decay": 0.5},
        "log_every": 1,
        "evaluate_every": 4,
        "evaluate_samples": 300,
        "save_every": 2,
    }
    return Recipe(**{**values, **changes})


def trained(group, chosen: Recipe, folder: Path, resume: bool = False, parallel: str = "ddp"):
    metrics = train(chosen, folder, test_samples=300, group=group, resume=resume, parallel=parallel).metrics
    return metrics["grid"], metrics["skipped"]


def state(folder: Path) -> dict:
    return torch.load(folder / "state.pt", weights_only=True)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_equal_to_rounding(first: Path, second: Path, atol: float = 5e-6) -> None:
    """Weights, averages, what optimisers remember of gradients, and every logged number.

    A bias of keys moves all attention alike and has no gradient but rounding, which Adam takes for one.
    """
    one, two = state(first), state(second)
    assert one["step"] == two["step"]
    for part in (lambda s: s["model"], lambda s: s["optimisation"]["averaged"]):
        for name, tensor in part(one).items():
            if not name.endswith("k.bias"):
                torch.testing.assert_close(part(two)[name], tensor, atol=atol, rtol=1e-4, msg=name)
    for ours, theirs in zip(*(kept["optimisation"]["optimisers"] for kept in (one, two)), strict=True):
        for number, moments in ours["state"].items():
            for name in moments.keys() & {"exp_avg", "momentum_buffer"}:
                torch.testing.assert_close(theirs["state"][number][name], moments[name], atol=1e-6, rtol=1e-3)
    for ours, theirs in zip(lines(first), lines(second), strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"stage"}:
            assert theirs[name] == pytest.approx(ours[name], rel=2e-5, abs=2e-5), name


DENSE = {"output_feat_dim": 16}
VARIANTS = {
    "masks": {"model": MODEL | DENSE | {"task": "segmentation"}},
    "depth maps": {"model": MODEL | DENSE | {"task": "depth"}},
    "plain": {},
    "accumulated": {"accumulate": 2},
    "unused blocks": {"stages": SHALLOW},
    "uneven parts": {"batch": 7},
    "in place": {"teacher": {"source": "in-place"}, "loss": {"distillation": 1.0},
                 "readouts": {"depth_tokens": "all"}},
    "own average": {"teacher": {"source": "self"}, "loss": {"distillation": 0.5, "temperature": 2.0}},
    "sandwich": {"readouts": {"width": "sandwich"}},
    "mixed": {"augment": {"mixup": 0.4, "cutmix": 1.0, "crop": 0.5, "flip": 0.5, "erasing": 0.3}},
    # These two amplify rounding (products in bfloat16; directions in which gradients are 0 but for rounding),
    # so their steps are small here: what they remember of gradients tells.
    "muon": {"optimiser": {"name": "muon", "learning_rate": 1e-5, "warmup_steps": 1}},
    "soap": {"optimiser": {"name": "soap", "learning_rate": 1e-5, "warmup_steps": 1}},
    "frozen": {"train": ["output_", "write_head"]},
    "checkpointing": {"checkpointing": True},
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_two_processes_train_what_one_does(together, tmp_path, name):
    if name == "soap":
        pytest.importorskip("pytorch_optimizer")
    chosen = recipe(**VARIANTS[name])
    grid, _ = trained(ALONE, chosen, tmp_path / "one")
    found = together(2, tmp_path / "meet", trained, chosen, tmp_path / "two")
    assert_equal_to_rounding(tmp_path / "one", tmp_path / "two", atol=1e-4 if name == "soap" else 5e-6)
    assert found[0] == found[1]
    assert [row["cost_flops"] for row in found[0][0]] == [row["cost_flops"] for row in grid]


@pytest.mark.parametrize("name", ["plain", "unused blocks", "accumulated", "mixed", "own average"])
def test_a_model_in_parts_trains_alike(together, tmp_path, name):
    chosen = recipe(**VARIANTS[name])
    trained(ALONE, chosen, tmp_path / "one")
    together(2, tmp_path / "meet", trained, chosen, tmp_path / "two", False, "fsdp")
    assert_equal_to_rounding(tmp_path / "one", tmp_path / "two")


def test_alone_it_is_a_plain_loop_bit_for_bit(tmp_path):
    """Nothing that several processes need may change a bit of what one does."""
    chosen = recipe(accumulate=2)
    train(chosen, tmp_path, test_samples=10)
    source = open_source(chosen)
    model = start(chosen, source).model.train()
    optimisation = Optimisation(model, chosen)
    with source.feed(chosen, model.preprocessing) as feed:
        for number in range(8):
            batch, stage = feed.batch(number), chosen.stages[0]
            (only,) = draw_passes(
                model.config, stage, chosen.readouts, chosen.batch, seed=chosen.seed, number=number
            )
            losses = pass_losses(
                model, batch.images, Targets(batch.targets), only, chosen.loss, chosen.readouts
            )
            (losses.total / 2).backward()
            if number % 2:
                optimisation.step()
                optimisation.zero_grad()
    kept = load(tmp_path / "model.pt").state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in optimisation.averaged.state_dict().items())


def interrupted(group, chosen: Recipe, folder: Path, step: int, parallel: str = "ddp"):
    """Process 1 is told to end after a step: all end there, by the same signal."""

    def progress(done: int, total: int, note: str = "") -> None:
        if done == step and group.rank == 1:
            signal.raise_signal(signal.SIGTERM)

    def leave(number, frame):
        raise SystemExit(number)

    signal.signal(signal.SIGTERM, leave)
    with pytest.raises(SystemExit) as stop:
        train(
            chosen,
            folder,
            test_samples=300,
            group=group,
            progress=progress,
            resume=True,
            parallel=parallel,
        )
    return stop.value.code


@pytest.mark.parametrize("counts", [(2, 1), (2, 3), (1, 2)])
def test_resumed_by_another_number_of_processes_it_ends_alike(together, tmp_path, counts):
    chosen = recipe(stages=[{"name": "all", "steps": 5, "axes": AXES}], batch=9)
    before, after = counts
    trained(ALONE, chosen, tmp_path / "one")
    if before == 1:
        together(1, tmp_path / "meet", interrupted_alone, chosen, tmp_path / "two")
    else:
        assert (
            together(2, tmp_path / "meet", interrupted, chosen, tmp_path / "two", 3) == [signal.SIGTERM] * 2
        )
    assert state(tmp_path / "two")["step"] == 3
    if after == 1:
        trained(ALONE, chosen, tmp_path / "two", True)
    else:
        together(after, tmp_path / "again", trained, chosen, tmp_path / "two", True)
    assert_equal_to_rounding(tmp_path / "one", tmp_path / "two")


def test_a_model_in_parts_goes_on_where_a_whole_one_was(together, tmp_path):
    chosen = recipe(stages=[{"name": "all", "steps": 6, "axes": AXES}])
    trained(ALONE, chosen, tmp_path / "one")
    together(2, tmp_path / "meet", interrupted, chosen, tmp_path / "two", 2)
    together(2, tmp_path / "parts", interrupted, chosen, tmp_path / "two", 4, "fsdp")
    assert state(tmp_path / "two")["step"] == 4
    trained(ALONE, chosen, tmp_path / "two", True)
    assert_equal_to_rounding(tmp_path / "one", tmp_path / "two")


def test_a_model_in_parts_needs_adamw(together, tmp_path):
    def run(group):
        with pytest.raises(UsageError, match="--parallel fsdp: optimiser muon needs whole matrices"):
            train(recipe(**VARIANTS["muon"]), tmp_path / "two", group=group, parallel="fsdp")
        return "refused"

    assert together(2, tmp_path / "meet", run) == ["refused"] * 2


def interrupted_alone(group, chosen: Recipe, folder: Path):
    return interrupted(group_as_rank_one(), chosen, folder, 3)


def group_as_rank_one():
    class Alone(type(ALONE)):
        rank = property(lambda self: 1)
        first = property(lambda self: True)

        def rows(self, total):
            return range(total)

    return Alone()


def killed(group, chosen: Recipe, folder: Path, who: int):
    def progress(done: int, total: int, note: str = "") -> None:
        if done == 3 and group.rank == who:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(LostError) as caught:
        train(chosen, folder, test_samples=300, group=group, progress=progress)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(("who", "saved"), [(1, 3), (0, 2)])
def test_one_killed_ends_all_and_what_is_left_can_be_resumed(together, tmp_path, who, saved):
    chosen = recipe(stages=[{"name": "all", "steps": 5, "axes": AXES}])
    trained(ALONE, chosen, tmp_path / "one")
    message, hint = together(2, tmp_path / "meet", killed, chosen, tmp_path / "two", who)[1 - who]
    assert message == f"process {who} of 2 ended: was killed"
    assert hint.startswith("step 3 is saved: " if who else "the same command with --resume goes on")
    assert state(tmp_path / "two")["step"] == saved
    together(2, tmp_path / "again", trained, chosen, tmp_path / "two", True)
    assert_equal_to_rounding(tmp_path / "one", tmp_path / "two")


def poisoned(group, chosen: Recipe, folder: Path):
    """One image of process 1 holds no numbers: all stop at that step."""
    keep = Endless.batch

    def batch(self, number: int) -> Batch:
        found = keep(self, number)
        if number == 2 and group.rank == 1:
            found.images[0] = float("nan")
        return found

    Endless.batch = batch
    with pytest.raises(AdapError) as caught:
        train(chosen, folder, test_samples=300, group=group)
    return caught.value.message


def test_a_loss_that_is_no_number_in_one_process_stops_all(together, tmp_path):
    found = together(2, tmp_path / "meet", poisoned, recipe(), tmp_path / "two")
    assert found == ["the loss became nan at step 2"] * 2
    assert state(tmp_path / "two")["step"] == 2


def test_too_many_processes_for_a_batch_are_refused(together, tmp_path):
    def run(group):
        with pytest.raises(UsageError, match="batch 1: 2 processes need a sample each"):
            train(recipe(batch=1), tmp_path / "two", group=group)
        return "refused"

    assert together(2, tmp_path / "meet", run) == ["refused"] * 2


def test_every_sample_of_a_batch_is_read_by_exactly_one(tmp_path):
    from adapcli.distributed.group import Group
    from adapcli.distributed.launch import Launch

    chosen = recipe(batch=7)
    preprocessing = start(chosen, open_source(chosen)).model.preprocessing
    source, ids = open_source(chosen), []
    with source.feed(chosen, preprocessing) as feed:
        whole = feed.batch(3)
    for rank in range(3):
        with source.feed(chosen, preprocessing) as feed:
            feed.rows = Group(Launch(rank=rank, size=3)).rows(chosen.batch)
            part = feed.batch(3)
        ids += part.sample_ids
        rows = [whole.sample_ids.index(name) for name in part.sample_ids]
        assert torch.equal(part.images, whole.images[rows])
    assert ids == whole.sample_ids
