"""PPO, A2C and DQN that look at each readout: trained once for a range of prices and several entries."""

from dataclasses import replace
from typing import Any

import numpy as np

from policies.anytime.env import Anytime
from policies.anytime.gate import gates
from policies.anytime.lattice import Lattice
from policies.anytime.network import AnytimeNetwork
from policies.anytime.prices import price_range
from policies.anytime.seen import Sight
from policies.anytime.soft import ScoreKind, Scores, Target, aimed, scores_of
from policies.base import Progress, Trained, measure, split_rows
from policies.encoding import PRICE_NODES, Prices
from policies.errors import UnavailableError
from policies.grid import Grid
from policies.isolation import one_thread, private_randomness
from policies.network import Network
from policies.objective import Objective, too_expensive
from policies.rl import training
from policies.rl.recipes import ANYTIME_RECIPES, HIDDEN, Recipe
from policies.table import OutcomeTable

PRICES_TRIED = 33
ENTRIES_TRIED = 6


def train_anytime(
    table: OutcomeTable,
    objective: Objective,
    *,
    algo: str = "ppo",
    target: Target = "score",
    score: ScoreKind | None = None,
    timesteps: int | None = None,
    seed: int = 0,
    n_envs: int | None = None,
    progress: Progress | None = None,
    name: str | None = None,
) -> Trained:
    """Train on the fit split at all prices at once; entries and the price are chosen on the tune split.

    Episodes begin at the entries that backward induction finds best at some price. timesteps: looks in all;
    n_envs: episodes at a time (by default the algorithm's recipe); target, score: as for
    `policies.anytime.gate.train_gate`. With `lambda_` as the objective that price is used as it is. The same
    seed gives the same policy.

    Raises UsageError for arguments out of range, InfeasibleError if no price meets the objective on the
    tune split.
    """
    chosen = training.adjusted(ANYTIME_RECIPES[algo], timesteps, n_envs, seed)
    table = aimed(table, target)
    _refuse_hopeless(table, objective)
    lattice, prices = Lattice.of(table), price_range(table, objective)
    entries = best_entries(table, lattice, prices, score)
    task = Anytime.of(
        table,
        lambda_=prices,
        entries=entries,
        score=score,
        look_flops=_untrained(table, lattice, entries[0], prices, algo, name).own_flops,
    )
    network = _learn(task, algo, chosen, seed, progress or training.silent)
    each = [
        replace(_untrained(table, lattice, entry, prices, algo, name), network=network) for entry in entries
    ]
    return _best(each, table, objective, scores_of(table))


def best_entries(
    table: OutcomeTable, lattice: Lattice, prices: Prices, score: ScoreKind | None = None
) -> list[int]:
    """Where gates enter at prices of the range, those that do at most prices first; at most 6."""
    found = [gate.nodes[0] for gate in gates(table, lattice, prices.grid(PRICES_TRIED), score=score)]
    some = [entry for entry in found if not lattice.ends[entry]] or [int(np.argmin(table.cost_flops))]
    entries, counts = np.unique(some, return_counts=True)
    return [int(entry) for entry in entries[np.argsort(-counts, kind="stable")][:ENTRIES_TRIED]]


def _refuse_hopeless(table: OutcomeTable, objective: Objective) -> None:
    least = float(table.cost_flops.min() / table.cost_flops[table.full])
    if objective.flops_target is not None and objective.flops_target < least:
        raise too_expensive(objective.flops_target, least)


def _untrained(
    table: OutcomeTable, lattice: Lattice, entry: int, prices: Prices, algo: str, name: str | None
) -> AnytimeNetwork:
    """The policy that will be, entering at `entry`, with a network of zeros."""
    nodes = np.array(lattice.reachable(entry))
    place = np.zeros(table.n_configs, dtype=np.int64)
    place[nodes] = np.arange(len(nodes))
    sight = Sight.fit(table, lattice).take(nodes)
    sizes = (sight.size + PRICE_NODES, *HIDDEN, len(lattice.actions))
    return AnytimeNetwork(
        kind=f"anytime-{algo}",
        grid=Grid.of(table),
        signal_names=table.signal_names,
        nodes=tuple(nodes.tolist()),
        moves=place[lattice.moves[nodes]],
        sight=sight,
        prices=prices,
        network=Network.zeros(sizes, ANYTIME_RECIPES[algo].activation),
        lambda_=0.0,
        name=name or f"{algo}-anytime",
    )


def _learn(task: Anytime, algo: str, chosen: Recipe, seed: int, progress: Progress) -> Network:
    """Run Stable-Baselines3 and take the network out. Its own archive is never written."""
    try:
        from stable_baselines3.common.logger import Logger

        from policies.rl.vec_env import AnytimeVecEnv
    except ImportError as error:
        raise UnavailableError(f"learning needs {error.name}", "pip install stable-baselines3") from error
    environment = AnytimeVecEnv(task, chosen.n_envs, seed, scale_rewards=chosen.scale_rewards)
    with one_thread(), private_randomness():
        model: Any = training.model_of(algo, environment, chosen, seed)
        model.set_logger(Logger(None, []))
        model.learn(chosen.timesteps, callback=training.schedule(chosen, progress))
        return training.extract(model)


def _best(each: list[AnytimeNetwork], table: OutcomeTable, objective: Objective, scores: Scores) -> Trained:
    """At every price the entry of the largest utility, and the price that the objective picks."""
    rows = split_rows(table, "tune")
    prices = each[0].prices.grid(PRICES_TRIED) if objective.lambda_ is None else np.array([objective.lambda_])
    soft = scores(table, rows)
    full = float(table.cost_flops[table.full])

    def utility(policy: AnytimeNetwork) -> float:
        decision = policy.select(table, rows)
        gained = soft[np.arange(len(rows)), decision.configuration].mean(dtype=np.float64)
        return float(gained - policy.lambda_ * decision.cost_flops.mean() / full)

    family = [max((policy.at(price) for policy in each), key=utility) for price in prices.tolist()]
    measured = measure(family, table, rows)
    return measured.trained(family, objective, measured.choose(table, objective))
