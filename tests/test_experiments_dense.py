"""The scripts of the dense experiment: guesses are what they say, heads are compared on one backbone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.slow
def test_the_majority_is_background_and_a_mean_for_each_place_beats_one_for_all(tmp_path):
    script("baselines.py", "--train", 300, "--scenes", 200, "--out", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    masks, depths = found["segmentation"]["tune"], found["depth"]["tune"]
    # One class of eleven, and of that the union is everything.
    assert masks["constant"]["miou"] == pytest.approx(masks["constant"]["pixel_accuracy"] / 11, abs=1e-4)
    assert depths["per pixel"]["rmse"] < depths["constant"]["rmse"]


@pytest.mark.slow
def test_decoders_are_compared_and_not_trained_again(tmp_path):
    base = train(load_recipe("digits-segmentation", SMALL), tmp_path / "base", test_samples=4).checkpoint
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
