"""Commands as torchrun starts them: one voice, one result, and what happens when a process is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import adapcli
from adapcli.main import main
from policies.table import OutcomeTable

ROOT = Path(__file__).parent.parent.parent
TORCHRUN = Path(sys.executable).parent / "torchrun"
RECIPE = """
name: tiny
batch: 8
model: {embed_dim: 16, num_heads: 2, depth: 2, max_latent_tokens: 4, token_granularities: [1, 2, 4],
        widths: [8, 16], image_size: 16, patch_size: 8, use_embed_ffn: false}
stages: [{name: all, steps: STEPS, axes: [tokens, depth, width]}]
log_every: 1
evaluate_every: 100000
evaluate_samples: 8
save_every: 2
"""
started: list[subprocess.Popen] = []
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def tidy():
    yield
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()
    started.clear()


def start(folder: Path, *words, restarts=0) -> subprocess.Popen:
    kept = {name: value for name, value in os.environ.items() if name != "ADAP_RUN"}
    variables = {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [str(TORCHRUN), "--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts)]
    running = subprocess.Popen(
        [*command, "-m", "--", "adapcli", *map(str, words)],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started.append(running)
    return running


def second_process(parent: int) -> int:
    """The process of rank 1 among the children of torchrun."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    (found,) = (c for c in children if "\0RANK=1\0" in f"\0{Path(f'/proc/{c}/environ').read_text()}")
    return int(found)


def wait_for(condition, process, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.05)


def step_of(folder: Path) -> int:
    path = folder / "adap-run/train/metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def recipe(tmp_path):
    def write(steps):
        (tmp_path / "tiny.yaml").write_text(RECIPE.replace("STEPS", str(steps)))
        return tmp_path / "tiny.yaml"

    return write


def test_one_killed_is_told_and_torchrun_starts_them_again_where_they_were(recipe, tmp_path):
    written = recipe(60)
    running = start(tmp_path, "train", "--recipe", written, "--json", restarts=1)
    wait_for(lambda: step_of(tmp_path) >= 3, running)
    os.kill(second_process(running.pid), signal.SIGKILL)
    out, err = running.communicate(timeout=200)
    assert running.returncode == 0, err
    assert "error: process 1 of 2 ended: was killed" in err
    assert "is saved: the same command with --resume goes on" in err
    found = json.loads(out)
    logged = (tmp_path / "adap-run/train/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == [*range(1, 61), 60]
    assert found["recipe"]["name"] == "tiny"
    assert len(json.loads((tmp_path / "adap-run/run.json").read_text())["commands"]) == 1


def test_a_sweep_one_of_whose_processes_is_killed_says_so_and_is_finished_by_one(
    make_model, tmp_path, monkeypatch, capsys
):
    adapcli.save(make_model(num_classes=10), tmp_path / "m.pt")
    words = ["sweep", "--ckpt", tmp_path / "m.pt", "--limit", 12000, "--run", "two"]
    running = start(tmp_path, *words)
    ledger = tmp_path / "two/table.partial/ledger"
    wait_for(lambda: ledger.is_dir() and len(list(ledger.glob("0*.json"))) >= 2, running)
    os.kill(second_process(running.pid), signal.SIGKILL)
    out, err = running.communicate(timeout=200)
    assert running.returncode == 1
    assert out == ""
    assert err.count("error: ") == 1
    assert "error: process 1 of 2 ended: was killed" in err
    assert "hint: the same command with --resume goes on; any number of processes will do" in err
    monkeypatch.chdir(tmp_path)
    for folder, more in (("two", ["--resume"]), ("one", [])):
        assert main([*map(str, words[:-1]), folder, *more, "--quiet"]) == 0, capsys.readouterr().err
    for path in sorted((tmp_path / "one/table").glob("*.npy")):
        assert path.read_bytes() == (tmp_path / "two/table" / path.name).read_bytes(), path.name
    assert OutcomeTable.load(tmp_path / "two/table").n_samples > 11990


def test_an_error_that_all_meet_is_told_once_and_sigterm_leaves_what_resumes(recipe, tmp_path):
    refused = start(tmp_path, "train", "--recipe", recipe(4), "--device", "cuda:0")
    _, err = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert err.count("error: ") == 1
    assert "error: --device cuda:0: 2 processes need a GPU each" in err
    running = start(tmp_path, "train", "--recipe", recipe(100_000))
    wait_for(lambda: step_of(tmp_path) >= 3, running)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=120)
    assert running.returncode != 0
    assert err.count("error: ") == 1
    assert "hint: continue with: torchrun --nproc-per-node 2 -m -- adapcli train" in err
    saved = torch.load(tmp_path / "adap-run/train/state.pt", weights_only=True)["step"]
    assert saved == json.loads((tmp_path / "adap-run/train/heartbeat.json").read_text())["step"] >= 3
