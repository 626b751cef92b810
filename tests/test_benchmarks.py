"""Benchmarks of running models run from end to end, on a tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "experiments" / "benchmarks"
TINY = ["--size", "tiny", "--batch", "4", "--batches", "2", "--samples", "16", "--rounds", "1"]
PARTS = ["--subset", "20", "--parts", "sweep", "anytime", "routed", "models"]


def run(script, *words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(FOLDER / script), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)


@pytest.mark.slow
def test_every_part_measures_something():
    ended = run("gpu.py", *TINY, *PARTS, "--device", "cpu", "--dtype", "bfloat16", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["dtype"], found["size"], found["machine"]["device"]) == ("bfloat16", "tiny", "cpu")
    parts = found["parts"]
    assert parts["sweep"][0]["ratio"] > 1
    assert parts["anytime"][0].keys() >= {"tokens", "depth", "mixed"}
    assert [row["what"] for row in parts["routed"]] == ["exits", "choices"]
    assert 0 < parts["routed"][0]["flops_of_full"] < 1
    ours = [row for row in parts["models"] if row["what"].startswith("t")]
    assert len(ours) == 9
    assert all(row["images_per_s"] > 0 for row in ours)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so():
    ended = run("gpu.py", *TINY, *PARTS)
    assert ended.returncode == 4
    assert ended.stderr.splitlines() == [
        "device cuda: this machine has no CUDA device; --device cpu works everywhere"
    ]


@pytest.mark.slow
def test_continuing_stopping_and_choosing_are_measured():
    ended = run("anytime.py", *TINY, "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    paths = found["continued over direct"]["batch 2"]
    assert paths.keys() == {"tokens", "depth", "mixed"}
    peaks = found["peak memory over 1.5 x direct + caches"]["batch 2"]
    assert all(peaks[name] <= 1 for name in paths)
    if found["routed"]:  # the published oracle data are there
        assert found["routed"].keys() == {"exits", "choices"}
        assert 0 < found["routed"]["exits"]["flops_of_full"] < 1


@pytest.mark.slow
def test_a_once_for_all_step_is_measured_against_plain_ones():
    ended = run("training.py", "--size", "tiny", "--batch", "8", "--rounds", "1", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["time"]["plain"]["over plain"] == 1
    steps = {"plain", "tokens", "depth", "once", "packaged", "checkpointed", "explicit", "naive"}
    assert found["time"].keys() == steps
    assert all(row["ms"] > 0 for row in found["time"].values())
    peaks = found["memory_bytes"]
    assert peaks["checkpointed"] < peaks["once"] < peaks["naive"]


def test_learning_and_judging_policies_are_timed():
    sizes = ["--fit", "400", "--test", "100", "--configurations", "20", "--features", "6"]
    ended = run("policy.py", *sizes, "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["configurations"], found["fit"], found["test"]) == (20, 400, 100)
    for algo in ("linear", "knn", "supervised"):
        assert found[f"{algo}_seconds"] >= 0
        assert found[f"{algo}_evaluate_seconds"] > 0
    assert found["supervised_over_linear"] > 1
    assert 0 < found["evaluate_over_all_statics"] < 5


@pytest.mark.slow
def test_the_environment_is_timed_alone_and_in_learning():
    sizes = ["--samples", "400", "--episodes", "128", "--steps", "20", "--timesteps", "2048", "--rounds", "1"]
    ended = run("environment.py", *sizes, "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["configurations"], found["episodes"]) == (90, 128)
    assert found["alone_over_one_at_a_time"] > 5
    assert found["ppo_over_still"] > 0
    assert found["alone_per_second"] > found["ppo_per_second"] > 0
