"""`adap train` as it is typed, interrupted and resumed."""

import functools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import adapcli
from adapcli.main import main
from adapcli.training import run as training

torch.set_num_threads(1)

ROOT = Path(__file__).parent.parent.parent
RECIPE = """
name: tiny
batch: 8
model: {embed_dim: 16, num_heads: 2, depth: 2, max_latent_tokens: 4, token_granularities: [1, 2, 4],
        widths: [8, 16], image_size: 16, patch_size: 8, use_embed_ffn: false}
stages: [{name: all, steps: STEPS, axes: [tokens, depth, width]}]
log_every: 1
evaluate_every: 1000
evaluate_samples: 8
save_every: 2
"""


@pytest.fixture
def write(tmp_path):
    def write(steps=4, name="a b.yaml", **more):
        text = RECIPE.replace("STEPS", str(steps)) + "".join(
            f"{key}: {value}\n" for key, value in more.items()
        )
        (tmp_path / name).write_text(text)
        return name

    return write


@pytest.fixture
def adap(tmp_path, monkeypatch, capsys):
    """Runs `adap train` in an empty folder, scoring 40 scenes at the end: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADAP_RUN", raising=False)
    monkeypatch.setattr(training, "train", functools.partial(training.train, test_samples=40))

    def run(*words):
        code = main(["train", *map(str, words)])
        return code, *capsys.readouterr()

    return run


def spawn(folder, *words):
    kept = {name: value for name, value in os.environ.items() if name != "ADAP_RUN"}
    variables = {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "adapcli", "train", *words]
    return subprocess.Popen(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def logged_steps(folder):
    """The steps in the log; the last one twice: its losses, and the scores at the end."""
    text = (folder / "adap-run/train/metrics.jsonl").read_text()
    return [json.loads(line)["step"] for line in text.splitlines()]


def wait_for(path, process):
    for _ in range(6000):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    pytest.fail(f"no {path}")


def test_a_recipe_becomes_a_checkpoint_and_the_next_command(adap, write, tmp_path):
    code, out, err = adap("--recipe", write())
    assert code == 0, err
    assert out.splitlines()[0] == "40 test scenes"
    assert err.splitlines()[-1] == "next: adap sweep"
    assert adapcli.load(tmp_path / "adap-run/train/model.pt").config.embed_dim == 16
    known = json.loads((tmp_path / "adap-run/run.json").read_text())
    assert (known["recipe"], known["seed"], known["trained"]) == ("tiny", 0, "train/model.pt")
    assert logged_steps(tmp_path) == [1, 2, 3, 4, 4]


def test_json_is_one_object(adap, write):
    code, out, err = adap("--recipe", write(), "--seed", 3, "--json", "--quiet")
    found = json.loads(out)
    assert (code, err, found["schema_version"]) == (0, "", 1)
    assert found["checkpoint"] == "adap-run/train/model.pt"
    assert found["recipe"]["seed"] == 3
    assert 0 <= found["accuracy_full"] <= 1


def test_a_finished_run_is_kept_unless_told(adap, write, tmp_path):
    name = write()
    assert adap("--recipe", name)[0] == 0
    before = (tmp_path / "adap-run/train/model.pt").read_bytes()
    code, out, err = adap("--recipe", name, "--seed", 1)
    assert (code, out) == (2, "")
    assert "--resume to go on or --overwrite to start again" in err
    assert (tmp_path / "adap-run/train/model.pt").read_bytes() == before
    assert adap("--recipe", name, "--resume")[0] == 0
    assert adap("--recipe", name, "--seed", 1, "--overwrite")[0] == 0
    assert (tmp_path / "adap-run/train/model.pt").read_bytes() != before


def interrupt_at(monkeypatch, step):
    """Ctrl-C when `step` steps are done."""
    from adapcli.training.loop import Trainer

    whole = Trainer._keep_up

    def keep_up(self, recent):
        whole(self, recent)
        if self.step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_keep_up", keep_up)


def test_overwriting_starts_anew_even_if_it_is_interrupted_at_once(adap, write, tmp_path, monkeypatch):
    name = write(steps=4)
    assert adap("--recipe", name)[0] == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        assert adap("--recipe", name, "--overwrite")[0] == 130
    seen = []
    monkeypatch.setattr("adapcli.console.Heartbeat.__call__", lambda self, done, *_: seen.append(done))
    assert adap("--recipe", name, "--resume")[0] == 0
    assert seen == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_run_that_the_command_told_finishes(adap, write, tmp_path, number, code):
    words = ("--recipe", write(steps=100), "--seed", "5")
    with spawn(tmp_path, *words) as process:
        wait_for(tmp_path / "adap-run/train/state.pt", process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    start = "hint: continue with: python -m adapcli train "
    (told,) = (line for line in err.splitlines() if line.startswith("hint: "))
    assert told == f"{start}--recipe 'a b.yaml' --seed 5 --resume"
    reached = torch.load(tmp_path / "adap-run/train/state.pt", weights_only=True)["step"]
    assert 2 <= reached < 100
    assert not (tmp_path / "adap-run/train/model.pt").exists()
    if number == signal.SIGTERM:
        return
    assert adap(*shlex.split(told.removeprefix(start)))[0] == 0
    assert logged_steps(tmp_path) == [*range(1, 101), 100]


def test_learning_curves_and_a_heartbeat_are_in_the_run(adap, write, tmp_path):
    code, _, err = adap("--recipe", write(steps=6))
    assert (code, "steps/s" in err) == (0, True)
    folder = tmp_path / "adap-run/train"
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "curves.svg").read_text()
    assert json.loads((folder / "heartbeat.json").read_text())["step"] == 6


def test_curves_that_cannot_be_drawn_do_not_fail_a_finished_training(adap, write, tmp_path, monkeypatch):
    def fail(folder):
        raise ValueError("no such backend\nand more")

    monkeypatch.setattr("adapcli.report.curves.draw_curves", fail)
    code, _, err = adap("--recipe", write(steps=2))
    assert code == 0
    assert "warning: the learning curves could not be drawn: no such backend\n" in err
    assert (tmp_path / "adap-run/train/model.pt").exists()


def test_a_run_that_fails_still_shows_how_it_went(adap, write, tmp_path, monkeypatch):
    from adapcli.training import engine

    whole = engine.pass_losses

    def pass_losses(model, *arguments, **named):
        losses = whole(model, *arguments, **named)
        calls.append(1)
        if len(calls) == 4:
            object.__setattr__(losses, "total", losses.total * float("nan"))
        return losses

    calls = []
    monkeypatch.setattr(engine, "pass_losses", pass_losses)
    code, _, err = adap("--recipe", write(steps=6))
    assert code == 1
    assert "error: the loss became nan at step 3" in err
    assert (tmp_path / "adap-run/train/curves.png").exists()
    assert adapcli.load(tmp_path / "adap-run/train/last.pt").config.depth == 2


def test_tensorboard_gets_every_number_once_after_a_resume(adap, write, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    name = write(steps=6)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        assert adap("--recipe", name, "--tensorboard")[0] == 130
    time.sleep(1.1)  # files of events are ordered by the second they were begun in
    assert adap("--recipe", name, "--tensorboard", "--resume")[0] == 0
    events = EventAccumulator(str(tmp_path / "adap-run/train/tensorboard"))
    events.Reload()
    logged = [json.loads(t) for t in (tmp_path / "adap-run/train/metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in logged if "loss" in line}
    shown = {event.step: event.value for event in events.Scalars("loss")}
    assert shown == pytest.approx(losses, rel=1e-6)
    assert len(events.Scalars("loss")) == 6
    assert "accuracy_full" in events.Tags()["scalars"]


def test_tensorboard_that_is_absent_is_told_before_anything_runs(adap, write, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    code, out, err = adap("--recipe", write(), "--tensorboard")
    assert (code, out) == (4, "")
    assert "pip install 'adapcli[tensorboard]'" in err
    assert not (tmp_path / "adap-run").exists()


DENSE = """{task: TASK, output_feat_dim: 8, num_bins: 4, min_depth: 1.0, max_depth: 11.0, embed_dim: 16,
num_heads: 2, depth: 2, max_latent_tokens: 4, token_granularities: [1, 4], widths: [16], image_size: 16,
patch_size: 8}"""


@pytest.mark.parametrize(("task", "shown"), [("segmentation", "miou"), ("depth", "rmse")])
def test_dense_tasks_are_told_by_their_own_metric(adap, write, task, shown):
    name = write(steps=2)
    code, out, _ = adap(
        "--recipe", name, "--set", f"model={DENSE.replace('TASK', task)}", "--run", "r", "--json"
    )
    assert code == 0
    metrics = json.loads(out)
    assert metrics["metric"] == shown
    assert f"{shown}_fewest_tokens" in metrics
    code, out, _ = adap("--recipe", name, "--set", f"model={DENSE.replace('TASK', task)}", "--run", "q")
    assert code == 0
    assert shown in out
    assert (" m\n" in out) == (task == "depth")


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf", "1e9"])
def test_scales_of_depth_that_cannot_be(adap, write, scale):
    code, _, error = adap("--recipe", write(), "--depth-scale", scale)
    assert code == 2
    assert error.startswith("error: --depth-scale: ")
