"""What can go wrong in a long run: NaN, signals, kills, a full disk. Nothing is lost that was saved."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapcli.data.dataset import Batch
from adapcli.errors import TERMINATED, AdapError
from adapcli.model.checkpoint import load
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.preprocessing import Preprocessing
from adapcli.space import Configuration
from adapcli.training import engine
from adapcli.training.heartbeat import Heartbeat
from adapcli.training.interruption import Interruptions
from adapcli.training.loop import Trainer
from adapcli.training.schema import Recipe

MODEL = {
    "embed_dim": 8,
    "num_heads": 2,
    "depth": 2,
    "max_latent_tokens": 2,
    "token_granularities": [1, 2],
    "widths": [4, 8],
    "image_size": 8,
    "patch_size": 4,
    "in_channels": 1,
    "num_classes": 3,
    "use_embed_ffn": False,
    "layer_scale_init": 0.5,
}
ROOT = Path(__file__).parent.parent.parent


class Noise:
    """Random images, the same for the same number; NaN from batch `poisoned` on."""

    def __init__(self, poisoned: int | None = None) -> None:
        self.poisoned = poisoned

    def batch(self, number: int) -> Batch:
        generator = torch.Generator().manual_seed(number)
        images = torch.randn(4, 1, 8, 8, generator=generator)
        if self.poisoned is not None and number >= self.poisoned:
            images[1, 0, 3, 3] = float("nan")
        return Batch(images, torch.randint(3, (4,), generator=generator), [])


def recipe(**changes) -> Recipe:
    stages = [
        {"name": "full", "steps": 4},
        {"name": "all", "steps": 8, "axes": ["tokens", "depth", "width"]},
    ]
    values = {"name": "t", "model": MODEL, "batch": 4, "stages": stages, "log_every": 3, "save_every": 5}
    return Recipe(**{**values, "evaluate_every": 4, **changes})


def trainer(folder: Path, data: Noise | None = None, **changes) -> Trainer:
    """A trainer of a fresh model in `folder`; it scores what its first weight is."""
    folder.mkdir(exist_ok=True)
    chosen = recipe(**changes)
    torch.manual_seed(0)
    model = AdaPerceiver(chosen.model_for(3, 1), preprocessing=Preprocessing(8, 8, (0.0,), (1.0,)))
    score = lambda averaged: {"accuracy_full": float(averaged.output_token.detach().mean())}  # noqa: E731
    return Trainer(chosen, model, data or Noise(), folder, score)


def everything(folder: Path) -> dict:
    """Weights, average, moments of the optimiser and the journal of a run: all that must be equal."""
    state = torch.load(folder / "state.pt", weights_only=True)
    del state["seconds"]
    return {"state": state, "journal": (folder / "metrics.jsonl").read_text()}


def equal(first, second) -> bool:
    """Bit for bit, through all containers."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("whole")
    trainer(folder).run()
    return everything(folder)


def raise_at(run: Trainer, step: int, act) -> None:
    """Call `act` when step number `step` is done, in the middle of what follows it."""

    def progress(done: int, total: int, note: str = "") -> None:
        if done == step:
            act()

    run.progress = progress


class Crash(BaseException):
    """The process is gone: nothing is tidied up."""


def crash():
    raise Crash


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 12), min_size=1, max_size=3))
def test_crashes_at_random_steps_change_nothing(uninterrupted, tmp_path_factory, cuts):
    """Weights, average, optimiser, journal: as if nothing had happened."""
    folder = tmp_path_factory.mktemp("cut") / "run"
    for cut in cuts:
        run = trainer(folder)
        raise_at(run, cut, crash)
        try:
            run.run(resume=True)
        except Crash:
            continue
    trainer(folder).run(resume=True)
    assert equal(everything(folder), uninterrupted)


@pytest.mark.parametrize("step", [1, 3, 4, 7, 11])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_very_step_and_changes_nothing(tmp_path, uninterrupted, number, step):
    run = trainer(tmp_path / "cut")
    raise_at(run, step, lambda: signal.raise_signal(number))
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
            run.run()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert torch.load(tmp_path / "cut/state.pt", weights_only=True)["step"] == step
    told = json.loads((tmp_path / "cut/heartbeat.json").read_text())
    assert (told["state"], told["step"], told["saved_step"]) == ("interrupted", step, step)
    again = trainer(tmp_path / "cut")
    again.run(resume=True)
    assert equal(everything(tmp_path / "cut"), uninterrupted)
    assert json.loads((tmp_path / "cut/heartbeat.json").read_text())["state"] == "finished"


def test_a_second_signal_does_not_wait(tmp_path):
    run = trainer(tmp_path / "cut")

    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second one was only noted")

    raise_at(run, 7, twice)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert torch.load(tmp_path / "cut/state.pt", weights_only=True)["step"] == 5


def test_handlers_are_put_back_and_ignored_signals_stay_ignored():
    before = signal.getsignal(signal.SIGINT), signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interruptions() as interruptions:
            signal.raise_signal(signal.SIGTERM)
            assert interruptions.asked is None
            assert signal.getsignal(signal.SIGINT) != before[0]
        assert signal.getsignal(signal.SIGINT) == before[0]
    finally:
        signal.signal(signal.SIGTERM, before[1])


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
import test_robust
run = test_robust.trainer(Path(sys.argv[2]))
run.progress = lambda done, total, note: (print(done, flush=True), time.sleep(0.05))
run.run(resume=True)
"""


@pytest.mark.slow
def test_kill_9_changes_nothing(tmp_path, uninterrupted):
    words = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path / "cut")]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while process.stdout.readline().strip() != "9":
            assert process.poll() is None
        process.kill()
    assert process.returncode == -signal.SIGKILL
    again = trainer(tmp_path / "cut")
    seen = []
    again.progress = lambda done, total, note: seen.append(done)
    again.run(resume=True)
    assert seen[0] == 6  # from the state of step 5
    assert equal(everything(tmp_path / "cut"), uninterrupted)


def in_data(run: Trainer, step: int, monkeypatch) -> None:
    run.data = Noise(poisoned=step)


def in_loss(run: Trainer, step: int, monkeypatch) -> None:
    whole = engine.pass_losses

    def pass_losses(*arguments, **named):
        losses = whole(*arguments, **named)
        if run.step == step:
            object.__setattr__(losses, "total", losses.total * float("inf"))
        return losses

    monkeypatch.setattr(engine, "pass_losses", pass_losses)


def in_gradient(run: Trainer, step: int, monkeypatch) -> None:
    def poison(gradient):
        return gradient * float("nan") if run.step == step else gradient

    run.model.blocks[0].ffn.fc1.weight.register_hook(poison)


def in_weights(run: Trainer, step: int, monkeypatch) -> None:
    """The step itself goes wrong, as an overflow in the optimiser would; the loss comes a step later."""
    whole = run.optimisation.step

    def stepped():
        norm = whole()
        if run.step == step:
            with torch.no_grad():
                run.model.output_token[0, 0] = float("inf")
        return norm

    monkeypatch.setattr(run.optimisation, "step", stepped)


@pytest.mark.parametrize("step", [1, 4, 6, 10])
@pytest.mark.parametrize("poison", [in_data, in_loss, in_gradient, in_weights])
def test_nan_ends_the_run_names_the_step_and_keeps_what_was_before(
    tmp_path, uninterrupted, monkeypatch, poison, step
):
    run = trainer(tmp_path / "run")
    poison(run, step, monkeypatch)
    with pytest.raises(AdapError) as ended:
        run.run()
    assert ended.value.exit_code == 1
    assert f"at step {step}" in ended.value.message
    assert json.loads((tmp_path / "run/heartbeat.json").read_text())["state"] == "failed"
    if poison is in_weights and step < 5:
        assert not (tmp_path / "run/state.pt").exists()  # nothing good was left to save
        return
    assert str(tmp_path / "run") in ended.value.hint
    state = torch.load(tmp_path / "run/state.pt", weights_only=True)
    assert 0 < state["step"] <= step
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    model = load(tmp_path / "run/last.pt")
    assert model(torch.randn(2, 1, 8, 8), Configuration(1, 4, 1)).logits.isfinite().all()
    monkeypatch.undo()
    trainer(tmp_path / "run").run(resume=True)
    assert equal(everything(tmp_path / "run"), uninterrupted)


def test_images_without_numbers_are_told_apart_from_divergence(tmp_path):
    with pytest.raises(AdapError) as ended:
        trainer(tmp_path / "run", Noise(poisoned=2)).run()
    assert "images of this step hold no numbers" in ended.value.hint


@pytest.fixture
def disk_space():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_leaves_the_last_state_and_weights_intact(tmp_path, uninterrupted, disk_space):
    run = trainer(tmp_path / "run")
    kept = {}

    def fill_up():
        kept.update({path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()})
        disk_space(5_000)  # the next state is larger: its writing fails half way

    raise_at(run, 6, fill_up)
    with pytest.raises(AdapError, match=r"cannot write .*state\.pt: File too large"):
        run.run()
    disk_space(resource.RLIM_INFINITY)
    for name in ("state.pt", "last.pt"):
        assert (tmp_path / "run" / name).read_bytes() == kept[name]
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.endswith(".tmp")]
    assert load(tmp_path / "run/last.pt").config.depth == 2
    trainer(tmp_path / "run").run(resume=True)
    assert equal(everything(tmp_path / "run"), uninterrupted)


def test_a_journal_that_cannot_grow_ends_the_run_with_its_name(tmp_path, uninterrupted, disk_space):
    run = trainer(tmp_path / "run")
    raise_at(run, 2, lambda: disk_space(40))
    with pytest.raises(AdapError, match=r"cannot write .*metrics\.jsonl: File too large"):
        run.run()
    disk_space(resource.RLIM_INFINITY)
    trainer(tmp_path / "run").run(resume=True)
    assert equal(everything(tmp_path / "run"), uninterrupted)


def test_the_heartbeat_follows_the_pace_and_is_seldom_written(tmp_path):
    now = [0.0]
    pulse = Heartbeat(tmp_path / "heartbeat.json", 1000, every=10.0, clock=lambda: now[0])
    written = []
    for step in range(1, 201):
        now[0] += 1.0 if step <= 100 else 0.25  # four times as fast in the second half
        pulse.beat(step, "a", 1.5)
        written.append(json.loads((tmp_path / "heartbeat.json").read_text())["step"])
    assert len(set(written)) == 1 + 9 + 3
    assert pulse.rate == pytest.approx(4.0)
    told = json.loads((tmp_path / "heartbeat.json").read_text())
    assert told["left_s"] == pytest.approx((1000 - told["step"]) / 4.0, abs=0.1)
    assert {"state": "running", "stage": "a", "loss": 1.5, "steps": 1000}.items() <= told.items()
