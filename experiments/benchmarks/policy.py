"""How long learning an input-only policy with full feedback takes, and judging one.

The table is synthetic: a grid of 6 x 3 x 21 configurations (or a part of it) whose scores depend on four
features of many. Times are processor seconds of the one thread. Rivals, in the same run: ridge regression in
closed form for training, and a bootstrap over all statics for judging.
"""

import argparse
import json
import time
from collections.abc import Callable
from itertools import product
from unittest import mock

import numpy as np
import pandas as pd
import torch

import policies
from policies import evaluate as judging
from policies.curves import trade_off
from policies.table import OutcomeTable

AXES = {"tokens": (32, 64, 96, 128, 192, 256), "width": (416, 624, 832), "depth": tuple(range(1, 22))}
LEARNERS = ("linear", "knn", "supervised")


def grid_of(count: int) -> pd.DataFrame:
    """`count` configurations spread over the published grid, the full one among them."""
    rows = list(product(*AXES.values()))
    kept = np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))
    grid = pd.DataFrame([rows[at] for at in kept], columns=list(AXES))
    cost = 2.5e9 + 1.2e7 * grid["tokens"] * grid["depth"] * (0.5 + 0.5 * grid["width"] / 832)
    return grid.assign(cost_flops=cost, readout_flops=1e7, memory_bytes=0)


def table_of(fit: int, test: int, configurations: int, features: int) -> OutcomeTable:
    rng, tune = np.random.default_rng(0), max(4, fit // 5)
    n, grid = fit + tune + test, grid_of(configurations)
    seen = rng.normal(size=(n, features)).astype(np.float32)
    spread = np.exp(-grid["tokens"] / 64) + np.exp(-grid["depth"] / 6)
    strength = 3.0 - 3 * spread + 0.3 * grid["width"] / 832
    margin = strength.to_numpy()[None] - seen[:, :4].sum(axis=1, keepdims=True)
    likely = (1 / (1 + np.exp(-margin))).astype(np.float32)
    hit = rng.random(likely.shape, dtype=np.float32) < likely
    return OutcomeTable.from_arrays(
        configs=grid,
        score=hit,
        prediction=hit,
        nll=-np.log(np.where(hit, 0.5 + likely / 2, likely / 2) + 1e-6),
        samples=pd.DataFrame({"split": np.repeat(["fit", "tune", "test"], [fit, tune, test])}),
        features=seen,
        feature_flops=1000,
    )


def timed(work: Callable[[], object]) -> tuple[float, object]:
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def measure(options: argparse.Namespace) -> dict[str, object]:
    table = table_of(options.fit, options.test, options.configurations, options.features)
    policies.train("supervised", table.take(np.r_[: options.fit : 50, options.fit : table.n_samples : 50]))
    found: dict[str, object] = {"configurations": table.n_configs, "fit": options.fit, "test": options.test}
    for algo in LEARNERS:
        seconds, trained = timed(lambda algo=algo: policies.train(algo, table))
        judged, result = timed(lambda policy=trained.policy: judging.evaluate(policy, table))
        whole, _ = timed(lambda trained=trained: trade_off(trained, table))
        found |= {
            f"{algo}_seconds": round(seconds, 3),
            f"{algo}_evaluate_seconds": round(judged, 3),
            f"{algo}_trade_off_seconds": round(whole, 3),
            f"{algo}_saving_static": round(result.saving_static.mean, 4),
        }
    with mock.patch.object(judging, "near_hull", lambda scores, costs: np.arange(len(costs))):
        slow, _ = timed(lambda: judging.evaluate(trained.policy, table))
    found["supervised_over_linear"] = round(found["supervised_seconds"] / found["linear_seconds"], 2)
    found["evaluate_over_all_statics"] = round(found["supervised_evaluate_seconds"] / slow, 3)
    return {"schema_version": 1, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", type=int, default=50_000, help="samples to learn from; a fifth for tune")
    parser.add_argument("--test", type=int, default=50_000, help="samples to judge on")
    parser.add_argument("--configurations", type=int, default=378)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options)
    if options.json:
        return print(json.dumps(found))
    for name, value in found.items():
        print(f"{name:>28}  {value}")


if __name__ == "__main__":
    main()
