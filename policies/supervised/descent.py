"""The network of `supervised`: descent on the expected price-adjusted score over all configurations."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.base import FloatArray, Progress
from policies.encoding import Prices
from policies.isolation import one_thread, private_randomness
from policies.network import Network

HIDDEN = 32
EPOCHS = 10
LEAST_STEPS = 240
BATCH = 512

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pace:
    """How hard to learn. temperature: of the choice at price 0, in units of score."""

    learning_rate: float
    weight_decay: float
    temperature: float


PACES = (Pace(2e-3, 1.0, 0.1), Pace(1e-2, 0.01, 0.03))
"""Gentle, for features that tell little (the packaged digits); brisk, for features that tell much."""


@dataclass(frozen=True)
class Lesson:
    """What is learned: standardised features (n, F), scores (n, C), cost shares (C,), a range of prices."""

    features: Singles
    scores: Singles
    cost_share: FloatArray
    prices: Prices


def descend(lesson: Lesson, pace: Pace, *, seed: int, progress: Progress) -> Network:
    """A network g from features to C scores, one hidden layer.

    For a price drawn anew for each sample, p = softmax((g - price cost) / T) over all configurations, and
    the sum of p (score - price cost) + T entropy(p), over 1 + price, is maximised: nothing is sampled but the
    price. T is the pace's temperature times 1 + price. The network begins as the best static choice at every
    price. progress(step, steps).
    """
    import torch

    if not lesson.features.shape[1]:
        nothing = np.zeros((lesson.scores.shape[1], 0))
        return Network((nothing,), (lesson.scores.mean(axis=0, dtype=np.float64),), "relu")
    batch = min(BATCH, len(lesson.features))
    steps = max(LEAST_STEPS, EPOCHS * len(lesson.features) // batch)
    with one_thread(), private_randomness():
        torch.manual_seed(seed)
        layers = _layers(lesson)
        network = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=pace.learning_rate, weight_decay=pace.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, pace.learning_rate, total_steps=steps)
        for step, (x, scores, cost) in enumerate(_batches(lesson, batch, steps, seed), start=1):
            predicted = network(x)
            optimiser.zero_grad()
            predicted.backward(_slope(predicted.detach(), scores, cost, pace.temperature))
            optimiser.step()
            schedule.step()
            progress(step, steps)
    weights, biases = (
        tuple(getattr(layer, part).detach().numpy().astype(np.float64) for layer in layers)
        for part in ("weight", "bias")
    )
    return Network(weights, biases, "relu")


def _layers(lesson: Lesson) -> list[Any]:
    from torch import from_numpy, nn

    first = nn.Linear(lesson.features.shape[1], HIDDEN)
    last = nn.Linear(HIDDEN, lesson.scores.shape[1])
    nn.init.zeros_(last.weight)
    last.bias.data = from_numpy(lesson.scores.mean(axis=0))
    return [first, last]


def _batches(lesson: Lesson, batch: int, steps: int, seed: int) -> Iterator[tuple[Any, Any, Any]]:
    """Features (B, F), scores (B, C), and (prices (B, 1), cost shares (C,)), B samples a step."""
    from torch import from_numpy

    rng, n = np.random.default_rng(seed), len(lesson.features)
    features, scores = from_numpy(lesson.features), from_numpy(lesson.scores)
    share = from_numpy(lesson.cost_share.astype(np.float32))
    order = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        if len(order) < batch:
            order = np.concatenate([order, rng.permutation(n)])
        rows, order = from_numpy(order[:batch]), order[batch:]
        price = from_numpy(lesson.prices.draw(rng, batch).astype(np.float32))[:, None]
        yield features[rows], scores[rows], (price, share)


def _slope(predicted: Any, scores: Any, priced: tuple[Any, Any], temperature: float) -> Any:
    """The loss's gradient in the predictions (B, C): -p (r - sum of p r) / T with r = score - prediction.

    A regression that counts most where the choice is open; derived by hand, which halves the time.
    """
    price, share = priced
    warmth = temperature * (1 + price)
    p = ((predicted - price * share) / warmth).softmax(dim=1)
    r = scores - predicted
    centred = r - (p * r).sum(dim=1, keepdim=True)
    return -p * centred / (warmth * (1 + price) * len(p))
