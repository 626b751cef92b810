"""The scripts of the dense experiment: guesses are what they say, heads are compared on one backbone."""

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from adapcli.data.dataset import open_dataset
from adapcli.evaluation.dense.tasks import dense_task
from adapcli.model.checkpoint import load
from adapcli.model.config import ModelConfig
from adapcli.model.preprocessing import Preprocessing
from adapcli.training.judging import corner_scores
from adapcli.training.recipe import load_recipe
from adapcli.training.run import train

ROOT = Path(__file__).parents[1]
SMALL = [
    "batch=4", "model.embed_dim=16", "model.depth=2", "model.widths=[16]", "model.token_granularities=[1,16]",
    "model.patch_size=4", "model.output_feat_dim=8", "evaluate_samples=4",
    "stages=[{name: all, steps: 2, axes: [tokens, depth]}]",
]  # fmt: skip


def script(name, *words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "experiments/dense" / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def module(name):
    spec = spec_from_file_location("script", ROOT / "experiments/dense" / name)
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def tiny(task, folder):
    """A checkpoint of two steps of training."""
    return train(load_recipe(f"digits-{task}", SMALL), folder, test_samples=4).checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_scores_of_a_model_are_what_training_says_of_it(task, tmp_path):
    checkpoint = tiny(task, tmp_path / "run")
    out = tmp_path / "found.json"
    printed = script("score.py", checkpoint, "--train", 300, "--scenes", 40, "--out", out)
    found = json.loads(out.read_text())
    assert out.with_suffix(".md").read_text() == printed
    model = load(checkpoint)
    data = open_dataset("digits", split="test", preprocessing=model.preprocessing, limit=40, task=task)
    metric, name = ("mIoU", "miou") if task == "segmentation" else ("RMSE", "rmse")
    for choice, score in corner_scores(model, data).items():
        if choice.startswith(name):
            told = found["test"]["choices"][choice.removeprefix(f"{name}_")][metric]
            assert told["value"] == pytest.approx(score, abs=1e-5)
            assert told["low"] <= told["value"] <= told["high"]
    for rival, entry in {**found["test"]["guesses"], "fewest_tokens": None}.items():
        less = found["test"]["choices"][rival] if entry is None else entry
        difference = found["test"]["choices"]["full"][metric]["value"] - less[metric]["value"]
        assert found["test"]["full_less"][rival][metric]["value"] == pytest.approx(difference, abs=2e-5)


def test_guesses_are_made_without_looking():
    score = module("score.py")
    told = {}
    for task in ("segmentation", "depth", "centres"):
        config = ModelConfig(task=task, num_classes=11, output_feat_dim=1, image_size=32, max_depth=11)
        plain, adapter = Preprocessing(32, 32, (0.0,), (1.0,)), dense_task(config, 32)
        seen, new = (
            open_dataset("digits", split=split, preprocessing=plain, limit=n, task=task)
            for split, n in (("train", 300), ("tune", 200))
        )
        columns = score.guessed(adapter, score.guesses(config, seen), new)
        told[task] = {name: score.told(adapter, sums) for name, sums in columns.items()}
    # Background everywhere: its IoU is its share, every other class has none; it is what lies at the wall.
    background = 11 * told["segmentation"]["most common class"]["mIoU"]["value"]
    assert told["depth"]["median"]["delta_1"]["value"] == pytest.approx(background, abs=1e-4)
    # Squared errors are least about a mean.
    depths = {name: entry["RMSE"]["value"] for name, entry in told["depth"].items()}
    assert depths["mean of each place"] < depths["mean"] < depths["median"]
    # Digits lie about a few places, so that a place tells more than the mean over all.
    offsets = {name: entry["endpoint error"]["value"] for name, entry in told["centres"].items()}
    assert offsets["mean of each place"] < 0.5 * offsets["mean"]


@pytest.mark.slow
def test_decoders_are_compared_and_not_trained_again(tmp_path):
    base = tiny("segmentation", tmp_path / "base")
    words = ["--start", base, "--runs", tmp_path / "runs", "--steps", 2, "--seeds", 2, "--scenes", 4]
    first = script("decoders.py", *words, "--out", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["decoders"]) == ["linear", "conv", "conv x2"]
    assert all(len(entry["miou"]["full"]) == 2 for entry in found["decoders"].values())
    assert (tmp_path / "found.md").read_text() in first
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("model.pt")}
    assert len(times) == 6
    script("decoders.py", *words)
    assert {path: path.stat().st_mtime_ns for path in times} == times
