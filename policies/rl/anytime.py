"""PPO, A2C and DQN that look at each readout: trained once for a range of prices and several entries."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from policies.anytime.gate import gates
from policies.anytime.lattice import Lattice
from policies.anytime.network import AnytimeNetwork
from policies.anytime.prices import learned_range, price_range
from policies.anytime.seen import Sight
from policies.anytime.soft import ScoreKind, Singles, Target, aimed, scores_of
from policies.base import FloatArray, IntArray, Progress, Trained, measure, split_rows
from policies.encoding import PRICE_NODES, Prices
from policies.errors import UnavailableError, UsageError
from policies.grid import Grid
from policies.isolation import one_thread, private_randomness
from policies.network import Network
from policies.objective import Objective, too_expensive
from policies.rl import training
from policies.rl.recipes import ANYTIME_RECIPES, Recipe
from policies.table import OutcomeTable

PRICES_TRIED = 33
SAMPLES_COMPARED = 10_000
"""Entries are compared on about half as many tune samples, or on all if there are fewer."""
ENTRIES_TRIED = 3
"""With twice as many the network spends itself where hardly anybody enters (measured: -0.05 to -0.4)."""


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

    Raises UsageError for arguments out of range or a table that tells of no way to go on, InfeasibleError
    if no price meets the objective on the tune split.
    """
    learned = learn_anytime(
        aimed(table, target),
        objective,
        algo=algo,
        score=score,
        timesteps=timesteps,
        seed=seed,
        n_envs=n_envs,
        progress=progress,
        name=name,
    )
    family = learned.family(learned.tried if objective.lambda_ is None else [objective.lambda_])
    measured = measure(family, learned.table, split_rows(table, "tune"))
    return measured.trained(family, objective, measured.choose(learned.table, objective))


@dataclass(frozen=True, eq=False)
class Learned:
    """One training, as policies at any price.

    looking: the network at each entry that it was trained from; tried: the prices of a
    whole trade-off.
    """

    table: OutcomeTable
    lattice: Lattice
    sight: Sight
    looking: tuple[AnytimeNetwork, ...]
    tried: FloatArray

    def family(self, prices: Iterable[float]) -> list[AnytimeNetwork]:
        """At each price the entry of the largest utility on the tune split, or no look where that is more.

        They are compared by soft scores: they differ by less than labels of this many samples can tell.
        """
        tune = split_rows(self.table, "tune")
        rows = tune[:: 1 + len(tune) // SAMPLES_COMPARED]
        scores = scores_of(self.table)(self.table, rows)
        static = scores.mean(axis=0, dtype=np.float64)
        share, found = self.table.cost_flops / self.table.cost_flops[self.table.full], []
        for price in prices:
            blind = over(self.looking[0], self.lattice, self.sight, (int((static - price * share).argmax()),))
            offered = [policy.at(price) for policy in (*self.looking, blind)]
            found.append(max(offered, key=lambda policy: _utility(policy, self.table, rows, scores)))
        return found


def learn_anytime(
    table: OutcomeTable,
    objective: Objective,
    *,
    algo: str = "ppo",
    score: ScoreKind | None = None,
    timesteps: int | None = None,
    seed: int = 0,
    n_envs: int | None = None,
    progress: Progress | None = None,
    name: str | None = None,
) -> Learned:
    """As `train_anytime`, before a price is chosen."""
    chosen = training.adjusted(ANYTIME_RECIPES[algo], timesteps, n_envs, seed)
    lattice, every = Lattice.of(table), price_range(table, objective)
    _refuse_hopeless(table, lattice, objective)
    prices, sight = learned_range(table, objective, every), Sight.fit(table, lattice)
    entries = best_entries(table, lattice, prices, score)
    plain = _untrained(table, lattice, sight, prices, algo, name, chosen)
    given = {"lambda_": prices, "entries": entries, "score": score, "look_flops": plain.own_flops}
    network = _learn(table, given, algo, chosen, seed, progress or training.silent)
    learned = replace(plain, network=network)
    looking = tuple(over(learned, lattice, sight, lattice.reachable(entry)) for entry in entries)
    return Learned(table, lattice, sight, looking, _tried(prices, every))


def best_entries(
    table: OutcomeTable, lattice: Lattice, prices: Prices, score: ScoreKind | None = None
) -> list[int]:
    """Where gates enter at prices of the range, those that do at most prices first; at most 3."""
    found = [gate.nodes[0] for gate in gates(table, lattice, prices.grid(PRICES_TRIED), score=score)]
    leading = np.flatnonzero(~lattice.ends)
    some = [entry for entry in found if not lattice.ends[entry]]
    some = some or [int(leading[np.argmin(table.cost_flops[leading])])]
    entries, counts = np.unique(some, return_counts=True)
    return [int(entry) for entry in entries[np.argsort(-counts, kind="stable")][:ENTRIES_TRIED]]


def _refuse_hopeless(table: OutcomeTable, lattice: Lattice, objective: Objective) -> None:
    if lattice.ends.all():
        raise UsageError(
            "the outcome table tells of no way to go on from any configuration: nothing to learn",
            "--env configure chooses before looking",
        )
    least = float(table.cost_flops.min() / table.cost_flops[table.full])
    if objective.flops_target is not None and objective.flops_target < least:
        raise too_expensive(objective.flops_target, least)


def _untrained(
    table: OutcomeTable,
    lattice: Lattice,
    sight: Sight,
    prices: Prices,
    algo: str,
    name: str | None,
    chosen: Recipe,
) -> AnytimeNetwork:
    """The policy that will be, over the whole lattice, with a network of zeros."""
    order = lattice.order
    sizes = (sight.size + PRICE_NODES, *chosen.hidden, len(lattice.actions))
    return AnytimeNetwork(
        kind=f"anytime-{algo}",
        grid=Grid.of(table),
        signal_names=table.signal_names,
        nodes=tuple(order.tolist()),
        moves=np.argsort(order)[lattice.moves[order]],
        sight=sight.take(order),
        prices=prices,
        network=Network.zeros(sizes, chosen.activation),
        lambda_=0.0,
        name=name or f"anytime-{algo}",
    )


def over(policy: AnytimeNetwork, lattice: Lattice, sight: Sight, nodes: Sequence[int]) -> AnytimeNetwork:
    """The same network over other nodes; where no move leads to one of them, it stays."""
    place = np.zeros(len(lattice.moves), dtype=np.int64)
    place[list(nodes)] = np.arange(len(nodes))
    moves, at = place[lattice.moves[list(nodes)]], np.array(nodes)
    return replace(policy, nodes=tuple(nodes), moves=moves, sight=sight.take(at))


def _learn(
    table: OutcomeTable, given: dict[str, Any], algo: str, chosen: Recipe, seed: int, progress: Progress
) -> Network:
    """Run Stable-Baselines3 and take the network out. Its own archive is never written."""
    try:
        from stable_baselines3.common.logger import Logger

        from policies.anytime.env import Anytime
        from policies.rl.vec_env import TaskVecEnv
    except ImportError as error:
        raise UnavailableError(f"learning needs {error.name}", "pip install stable-baselines3") from error
    environment = TaskVecEnv(
        Anytime.of(table, **given), chosen.n_envs, seed, scale_rewards=chosen.scale_rewards, infos=False
    )
    with one_thread(), private_randomness():
        model: Any = training.model_of(algo, environment, chosen, seed)
        model.set_logger(Logger(None, []))
        model.learn(chosen.timesteps, callback=training.schedule(chosen, progress))
        return training.extract(model)


def _tried(learned: Prices, every: Prices) -> FloatArray:
    """The prices of the family: closely where the network has learned, and on to the end."""
    beyond = every.grid(PRICES_TRIED)
    return np.concatenate([learned.grid(PRICES_TRIED), beyond[beyond > learned.high]])


def _utility(policy: AnytimeNetwork, table: OutcomeTable, rows: IntArray, scores: Singles) -> float:
    """Mean score less price x cost, of samples `rows` (n,) with `scores` (n, C) to judge by."""
    decision = policy.select(table, rows)
    gained = scores[np.arange(len(rows)), decision.configuration].mean(dtype=np.float64)
    return float(gained - policy.lambda_ * decision.cost_flops.mean() / table.cost_flops[table.full])
