"""Fixtures that several rooms share."""

import multiprocessing
import signal
import traceback
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from torch.distributed import FileStore, PrefixStore

from adapcli.distributed.group import Group
from adapcli.distributed.launch import Launch
from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.preprocessing import Preprocessing
from policies.table import OutcomeTable

torch.set_num_threads(1)  # two threads on a busy machine are many times slower
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in the background deaf to Ctrl-C, and tests hand that on to what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def build_table(n_samples=200, *, tokens=(1, 2, 4), widths=(8, 16), depths=(1, 2, 3), seed=0, **changed):
    """A table of random outcomes in which dearer configurations are right more often."""
    rng = np.random.default_rng(seed)
    grid = [(t, w, d) for t in tokens for w in widths for d in depths]
    cost = np.array([50 + t * (w + 10) * d for t, w, d in grid])
    configs = pd.DataFrame(grid, columns=["tokens", "width", "depth"])
    configs.insert(0, "model", "m")
    configs = configs.assign(cost_flops=cost, readout_flops=5, memory_bytes=1000 + cost)
    target = rng.integers(0, 5, n_samples)
    right = rng.random((n_samples, len(grid))) < 0.3 + 0.6 * (cost - cost.min()) / (np.ptp(cost) + 1)
    prediction = np.where(right, target[:, None], (target[:, None] + 1) % 5)
    samples = {"sample_id": [f"s{i}" for i in range(n_samples)], "target": target}
    samples["split"] = np.resize(["fit", "tune", "calibration", "test"], n_samples)
    arguments = {
        "configs": configs,
        "score": right.astype(np.float32),
        "samples": pd.DataFrame(samples),
        "prediction": prediction,
        "nll": rng.random(right.shape, np.float32),
        "increment_flops": np.where(
            np.subtract.outer(cost, cost) > 0, np.inf, np.abs(cost[None] - cost[:, None])
        ),
        "signals": rng.random((*right.shape, 2), np.float32),
        "signal_names": ("confidence", "margin"),
        "features": rng.random((n_samples, 3), np.float32),
        "feature_names": ("mean", "spread", "edges"),
        "feature_flops": 7,
        "meta": {"fingerprints": {"checkpoint": "abc", "data": "def"}, "seed": seed},
    }
    return OutcomeTable.from_arrays(**(arguments | changed))


@pytest.fixture(scope="session")
def make_table():
    return build_table


@pytest.fixture(scope="session")
def without_labels():
    """The same answers, of samples whose labels nobody knows."""

    def strip(table):
        names = ("configs", "prediction", "increment_flops", "signals", "signal_names")
        kept = {name: getattr(table, name) for name in (*names, "features", "feature_names", "feature_flops")}
        samples = table.samples.assign(target=-1)
        return OutcomeTable.from_arrays(**kept, samples=samples, meta=table.meta)

    return strip


SMALL = {
    "embed_dim": 24,
    "num_heads": 2,
    "depth": 3,
    "max_latent_tokens": 8,
    "token_granularities": (1, 2, 5, 8),
    "widths": (6, 13, 24),
    "image_size": 16,
    "patch_size": 8,
    "in_channels": 1,
    "num_classes": 7,
    "layer_scale_init": 0.7,
    "token_init_std": 0.5,
}


def build_config(**changed):
    return ModelConfig(**(SMALL | changed))


def build_model(seed=0, class_names=(), **changed):
    """Random weights everywhere: no bias is 0, no gain 1."""
    torch.manual_seed(seed)
    config = build_config(**changed)
    preprocessing = Preprocessing(config.image_size, config.image_size, (0.2,), (0.4,))
    model = AdaPerceiver(config, preprocessing=preprocessing, class_names=class_names).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def make_config():
    return build_config


@pytest.fixture(scope="session")
def make_model():
    return build_model


def run_together(count, folder, function, *arguments):
    """`function(group, *arguments)` in `count` processes that meet in `folder`; what each returned.

    They are forked, so they have torch already and start at once. None: it was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    answers = [context.SimpleQueue() for _ in range(count)]
    started = [
        context.Process(target=_one, args=(rank, count, folder, answers[rank], function, arguments))
        for rank in range(count)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    found = [None if queue.empty() else queue.get() for queue in answers]
    for answer in found:
        if isinstance(answer, str) and answer.startswith("Traceback"):
            raise AssertionError(answer)
    return found


def _one(rank, count, folder, answers, function, arguments):
    torch.set_num_threads(1)
    try:
        store = FileStore(str(folder / "meeting"), count)
        dist.init_process_group(
            "gloo",
            store=PrefixStore("torch", store),
            rank=rank,
            world_size=count,
            timeout=timedelta(seconds=60),
        )
        launch = Launch(rank=rank, size=count, local_rank=rank, local_size=count)
        group = Group(launch, PrefixStore("adap", store))
        group.introduce()
        answers.put(function(group, *arguments))
    except BaseException:
        answers.put(traceback.format_exc())


@pytest.fixture(scope="session")
def together():
    return run_together
