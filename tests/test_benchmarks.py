"""The benchmark for a GPU box runs from end to end where there is none, on a tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "experiments" / "benchmarks" / "gpu.py"
TINY = "--size tiny --batch 4 --batches 2 --samples 16 --subset 20 --rounds 1"
PARTS = ["--parts", "sweep", "anytime", "routed", "models"]


def run(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *TINY.split(), *PARTS, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)


@pytest.mark.slow
def test_every_part_measures_something():
    ended = run("--device", "cpu", "--dtype", "bfloat16", "--json")
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
    ended = run()
    assert ended.returncode == 4
    assert ended.stderr.splitlines() == [
        "device cuda: this machine has no CUDA device; --device cpu works everywhere"
    ]
