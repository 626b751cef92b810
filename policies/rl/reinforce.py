"""REINFORCE with the published network: two mixer blocks on patch embeddings, entropy bonus, EMA baseline.

What the published trainer got wrong is right here: each sample has its own advantage (there, one for the
whole batch), cost is in FLOPs with the policy's own (there, the index of the token count), all axes are
chosen (there, tokens alone), and deployment decides per sample (there, a batch ran at its maximum). Prices
are drawn per sample, so that one training gives the whole trade-off; the baseline depends on the price.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from policies.base import Candidates, IntArray, Progress, Trained, split_rows
from policies.encoding import (
    PRICE_HEIGHT,
    PRICE_NODES,
    ActionKind,
    Actions,
    Floats,
    Indices,
    Prices,
    Singles,
    Standardiser,
)
from policies.errors import UsageError
from policies.grid import Grid
from policies.isolation import one_thread, private_randomness
from policies.objective import Objective
from policies.rl.mixer import Mixer, Shape
from policies.rl.mixer_policy import MixerPolicy, Sight
from policies.table import OutcomeTable
from policies.table.schema import id_columns

TIMESTEPS = 500_000
BATCH = 256
LEARNING_RATE = 2e-3
ENTROPY = 0.03
BASELINE_RATE = 0.05
PRICES_TRIED = 33
SCALED_ON = 10_000
LIMITS = {"timesteps": (1, 10**9), "seed": (0, 2**32 - 1)}


def train_reinforce(
    table: OutcomeTable,
    objective: Objective,
    *,
    timesteps: int | None = None,
    seed: int = 0,
    actions: ActionKind | None = None,
    name: str = "reinforce",
    progress: Progress | None = None,
) -> Trained:
    """Train on the fit split over all prices at once, then choose the price on the tune split.

    It looks at the table's patches, or at its features where it has none. timesteps: choices sampled in all;
    actions: "factored", one part per axis, by default on a full grid, else "discrete". progress(done, total).
    The same seed gives the same policy. Raises UsageError for arguments out of range, InfeasibleError if no
    price meets the objective on the tune split.
    """
    steps = TIMESTEPS if timesteps is None else timesteps
    for option, value in {"timesteps": steps, "seed": seed}.items():
        low, high = LIMITS[option]
        if not low <= value <= high:
            raise UsageError(f"{option} {value}: expected {low} to {high}")
    untrained = _untrained(table, objective, actions or _usual_actions(table), name)
    mixer = _learn(table, untrained, steps, seed, progress or _silent)
    policy = replace(untrained, mixer=mixer)
    prices = policy.prices.grid(PRICES_TRIED) if objective.lambda_ is None else [objective.lambda_]
    family = [policy.at(price) for price in prices]
    measured = _measured(family, table, split_rows(table, "tune"))
    return measured.trained(family, objective, measured.choose(table, objective))


def _measured(family: list[MixerPolicy], table: OutcomeTable, rows: IntArray) -> Candidates:
    """`policies.base.measure` of one network at several prices; it looks only once."""
    seen, values, at = family[0].look(table, rows), np.asarray(table.score[rows]), np.arange(len(rows))
    overhead = family[0].overhead_flops(table)
    chosen = [policy.best(seen) for policy in family]
    score = [values[at, configuration].mean(dtype=np.float64) for configuration in chosen]
    cost = [(table.cost_flops[configuration] + overhead).mean() for configuration in chosen]
    return Candidates(np.array(score), np.array(cost))


def _usual_actions(table: OutcomeTable) -> ActionKind:
    sizes = [table.configs[name].nunique() for name in id_columns(table.configs)]
    return "factored" if int(np.prod(sizes)) == table.n_configs else "discrete"


def _untrained(table: OutcomeTable, objective: Objective, kind: ActionKind, name: str) -> MixerPolicy:
    """The policy that will be, with weights of zero."""
    rows, sight, actions = split_rows(table, "fit"), Sight.of(table), Actions.of(table, kind)
    seen = sight.inputs(table, rows[:: -(-len(rows) // SCALED_ON)])
    prices = Prices.of(table, rows)
    shape = Shape.of(seen.shape[1], seen.shape[2], sum(actions.sizes))
    return MixerPolicy(
        grid=Grid.of(table),
        sight=sight,
        scale=Standardiser.fit(seen.reshape(-1, seen.shape[2])),
        prices=prices if objective.lambda_ is None else prices.reaching(objective.lambda_),
        actions=actions,
        mixer=Mixer(shape, {key: np.zeros(size, np.float32) for key, size in shape.tensors().items()}),
        lambda_=objective.lambda_ or 0.0,
        name=name,
    )


@dataclass(frozen=True)
class Turn:
    """B samples: standardised inputs (B, P, E), coded prices (B, 8), rewards of all configurations (B, C)."""

    inputs: Any
    price: Any
    rewards: Floats


def _turns(table: OutcomeTable, policy: MixerPolicy, steps: int, seed: int) -> Iterator[Turn]:
    import torch

    rng, rows = np.random.default_rng(seed), split_rows(table, "fit")
    share = (table.cost_flops + policy.overhead_flops(table)) / table.cost_flops[table.full]
    for _ in range(-(-steps // BATCH)):
        drawn = np.sort(rng.choice(rows, BATCH))
        price = policy.prices.draw(rng, BATCH)
        utility = np.asarray(table.score[drawn]) - price[:, None] * share
        seen = policy.scale(policy.sight.inputs(table, drawn))
        # Over 1 + price: dear prices do not drown cheap ones, and the best choice at each stays the same.
        yield Turn(
            torch.from_numpy(seen),
            torch.from_numpy(policy.prices.code(price)),
            utility / (1 + price[:, None]),
        )


class Baseline:
    """A moving average of the rewards at each of the price's nodes, and between them."""

    def __init__(self) -> None:
        self._level: Floats | None = None

    def advantage(self, turn: Turn, configuration: Indices) -> Singles:
        """What each sample's own choice (B,) earned beyond what is usual at its price, (B,) float32."""
        earned = turn.rewards[np.arange(len(configuration)), configuration]
        near = turn.price.numpy().astype(np.float64) / PRICE_HEIGHT
        if self._level is None:
            self._level = np.full(PRICE_NODES, earned.mean())
        beyond = earned - near @ self._level
        self._level = self._level + BASELINE_RATE * (near.T @ beyond) / np.maximum(near.sum(axis=0), 1e-9)
        return np.asarray(beyond, np.float32)


def _learn(table: OutcomeTable, policy: MixerPolicy, steps: int, seed: int, progress: Progress) -> Mixer:
    import torch

    from policies.rl.mixer_torch import MixerModule

    with one_thread(), private_randomness():
        torch.manual_seed(seed)
        network, baseline = MixerModule(policy.mixer.shape, PRICE_NODES), Baseline()
        optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        for done, turn in enumerate(_turns(table, policy, steps, seed)):
            left = 1 - done * BATCH / steps
            optimiser.param_groups[0]["lr"] = LEARNING_RATE * max(left, 0.02)
            log_p = [
                part.log_softmax(1)
                for part in network(turn.inputs, turn.price).split(policy.actions.sizes, dim=1)
            ]
            taken = torch.stack([torch.multinomial(part.exp(), 1)[:, 0] for part in log_p], dim=1)
            advantage = baseline.advantage(turn, policy.actions.configuration(taken.numpy()))
            credit = sum(part.gather(1, taken[:, [i]])[:, 0] for i, part in enumerate(log_p))
            entropy = -sum((part.exp() * part).sum(1) for part in log_p)
            # As published the bonus stays; here it has gone by half-time, so that prices can be told apart.
            bonus = ENTROPY * max(0.0, 2 * left - 1)
            loss = -(torch.from_numpy(advantage) * credit + bonus * entropy).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            progress(min((done + 1) * BATCH, steps), steps)
    weights = {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}
    return Mixer(policy.mixer.shape, weights)


def _silent(done: int, total: int) -> None:
    pass
