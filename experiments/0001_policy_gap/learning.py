"""Does reinforcement learning in `adap/Anytime-v0` find what backward induction finds?

At each of four prices lambda, U = score - lambda x cost / cost of the full configuration, less the U of the
best static configuration on the same samples. `gate` and the learned policies are made for these prices on
the fit and tune splits; one training per seed serves all prices. All costs are in: readouts and networks.
Intervals: 95 %, over samples drawn with replacement, paired, the best static chosen again in each draw; the
spread over seeds is told beside them.

    python experiments/0001_policy_gap/learning.py --run adap-run --split tune --seeds 5 -o learning.json
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from policies.anytime.gate import gates
from policies.anytime.lattice import Lattice
from policies.base import split_rows
from policies.curves.draws import Resampling, interval
from policies.files import write_json
from policies.objective import Objective
from policies.rl.anytime import learn_anytime
from policies.table import OutcomeTable

PRICES = (0.02, 0.05, 0.1, 0.2)


def utilities(members, table: OutcomeTable, rows: np.ndarray) -> np.ndarray:
    """Of each member at its own price, per sample, (n, prices)."""
    full, at = float(table.cost_flops[table.full]), np.arange(len(rows))
    scores, found = np.asarray(table.score[rows], np.float32), []
    for price, member in zip(PRICES, members, strict=True):
        decision = member.select(table, rows)
        found.append(scores[at, decision.configuration] - price * decision.cost_flops / full)
    return np.stack(found, axis=1).astype(np.float32)


def gains(members, table: OutcomeTable, rows: np.ndarray, draws: Resampling) -> np.ndarray:
    """U - U_static per draw of samples and price, (1 + resamples, prices)."""
    share = table.cost_flops / table.cost_flops[table.full]
    statics = draws.means(np.asarray(table.score[rows], np.float32))
    best = np.stack([(statics - price * share).max(axis=1) for price in PRICES], axis=1)
    return draws.means(utilities(members, table, rows)) - best


def told(values: np.ndarray) -> dict:
    found = interval(values)
    return {"mean": found.mean, "low": found.low, "high": found.high}


def learn(algo: str, table: OutcomeTable, seed: int, timesteps: int | None) -> tuple[list, float]:
    start = time.perf_counter()
    learned = learn_anytime(table, Objective(), algo=algo, seed=seed, timesteps=timesteps)
    members = learned.family(PRICES)
    seconds = time.perf_counter() - start
    print(f"{algo}, seed {seed}: {seconds:.0f} s", file=sys.stderr)
    return members, seconds


def compare(options: argparse.Namespace) -> dict:
    table = OutcomeTable.load(Path(options.run) / "table")
    rows = split_rows(table, options.split)
    draws = Resampling(len(rows), options.resamples)
    rival = gains(gates(table, Lattice.of(table), np.array(PRICES)), table, rows, draws)
    seeds, seconds = [], []
    for seed in range(options.seeds):
        members, took = learn(options.algo, table, seed, options.timesteps)
        seeds.append(gains(members, table, rows, draws))
        seconds.append(round(took, 1))
    share = np.stack([one.sum(axis=1) / rival.sum(axis=1) for one in seeds])
    return {
        "schema_version": 1,
        "algo": options.algo,
        "split": options.split,
        "n": len(rows),
        "resamples": options.resamples,
        "timesteps": options.timesteps,
        "prices": PRICES,
        "gate": [told(rival[:, i]) for i in range(len(PRICES))],
        "learned": [told(np.mean(seeds, axis=0)[:, i]) for i in range(len(PRICES))],
        "gate_sum": told(rival.sum(axis=1)),
        "learned_sum": told(np.mean(seeds, axis=0).sum(axis=1)),
        "share_of_gate": told(share.mean(axis=0)),
        "share_of_gate_by_seed": [told(one) for one in share],
        "share_of_gate_worst_seed": told(share[share[:, 0].argmin()]),
        "share_of_gate_spread": float(share[:, 0].std(ddof=1)) if len(share) > 1 else None,
        "seconds": seconds,
    }


def show(found: dict) -> None:
    def line(name: str, values: dict, scale: float) -> None:
        low, high = scale * values["low"], scale * values["high"]
        print(f"{name:<28}{scale * values['mean']:>8.2f}  ({low:.2f} .. {high:.2f})")

    print(f"U - U_static in points, {found['split']} split, n = {found['n']}")
    for i, price in enumerate(found["prices"]):
        line(f"lambda {price:g}: gate", found["gate"][i], 100)
        line(f"lambda {price:g}: {found['algo']}", found["learned"][i], 100)
    line("sum: gate", found["gate_sum"], 100)
    line(f"sum: {found['algo']}", found["learned_sum"], 100)
    line("share of gate, %", found["share_of_gate"], 100)
    for seed, values in enumerate(found["share_of_gate_by_seed"]):
        line(f"share, seed {seed}, %", values, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="a run folder with a table")
    parser.add_argument("--split", choices=("tune", "test"), default="tune")
    parser.add_argument("--algo", choices=("ppo", "a2c", "dqn"), default="ppo")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--timesteps", type=int, help="looks per training; the recipe's by default")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("-o", "--output", help="also write the result there, as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    found = compare(options)
    if options.output:
        write_json(Path(options.output), found)
    print(json.dumps(found)) if options.json else show(found)


if __name__ == "__main__":
    main()
