"""Train on the fit split with full feedback, choose the price on the tune split."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from policies.base import Candidates, FloatArray, IntArray, Progress, Trained, split_rows
from policies.encoding import Prices, Standardiser
from policies.errors import UsageError
from policies.grid import Grid
from policies.objective import Objective
from policies.supervised.descent import PACES, Lesson, descend
from policies.supervised.neighbours import Neighbours
from policies.supervised.priced import Predictor, Priced
from policies.supervised.ridge import ridge
from policies.supervised.targets import ScoreKind, learned_scores
from policies.table import OutcomeTable

PRICES_TRIED = 33
PRUNED_ON = 10_000
PROTOTYPES = 1024
LIMITS = {"prototypes": (1, 65_536), "seed": (0, 2**32 - 1)}


def train_linear(
    table: OutcomeTable, objective: Objective, *, score: ScoreKind | None = None, name: str = "linear"
) -> Trained:
    """Ridge regression of every configuration's score on the features.

    score: "soft" or "hard", what is learned, see `targets.learned_scores`. Raises UsageError for arguments
    out of range, InfeasibleError if no price meets the objective on the tune split.
    """
    scale, lesson = _lesson(table, objective, score)
    policy = _policy(table, "linear", scale, ridge(lesson.features, lesson.scores), name)
    return _at_best_price(_pruned(policy, lesson, objective), lesson, table, objective)


def train_supervised(
    table: OutcomeTable,
    objective: Objective,
    *,
    score: ScoreKind | None = None,
    seed: int = 0,
    name: str = "supervised",
    progress: Progress | None = None,
) -> Trained:
    """A small network by descent on the expected score - price x cost over all configurations.

    Learned at a gentle and at a brisk pace; the better on the tune split, over all prices, is kept.
    progress(step, steps) is called now and then; the same seed gives the same policy. Otherwise as
    `train_linear`.
    """
    _check(seed=seed)
    scale, lesson = _lesson(table, objective, score)
    tell, family = progress or _silent, []
    for done, pace in enumerate(PACES):
        told = partial(_part, tell, done, len(PACES))
        network = descend(lesson, pace, seed=seed, progress=told)
        family.append(_policy(table, "supervised", scale, network, name))
    policy = max(family, key=lambda policy: _mean_utility(policy, lesson, table))
    return _at_best_price(_pruned(policy, lesson, objective), lesson, table, objective)


def train_knn(
    table: OutcomeTable,
    objective: Objective,
    *,
    prototypes: int = PROTOTYPES,
    score: ScoreKind | None = None,
    seed: int = 0,
    name: str = "knn",
) -> Trained:
    """Nearest neighbours: predicts the mean score of the k nearest prototypes, see `Neighbours.fit`.

    prototypes: how many at most, which is what deciding costs. k is the best on the tune split, over all
    prices. Otherwise as `train_linear`.
    """
    _check(seed=seed, prototypes=prototypes)
    scale, lesson = _lesson(table, objective, score)
    fitted = Neighbours.fit(lesson.features, lesson.scores, prototypes=prototypes, seed=seed)
    family = [_policy(table, "knn", scale, replace(fitted, k=k), name) for k in _counts(len(fitted.weights))]
    policy = max(family, key=lambda policy: _mean_utility(policy, lesson, table))
    return _at_best_price(_pruned(policy, lesson, objective), lesson, table, objective)


def _counts(most: int) -> Iterator[int]:
    """4, 16, 64 ... neighbours, and all there are, which is a static choice."""
    k = 4
    while k < most:
        yield k
        k *= 4
    yield most


def _lesson(
    table: OutcomeTable, objective: Objective, score: ScoreKind | None
) -> tuple[Standardiser, Lesson]:
    rows = split_rows(table, "fit")
    features = np.asarray(table.features[rows])
    scale, prices = Standardiser.fit(features), Prices.of(table, rows)
    if objective.lambda_ is not None:
        prices = prices.reaching(objective.lambda_)
    share = np.asarray(table.cost_flops / table.cost_flops[table.full], np.float64)
    return scale, Lesson(scale(features), learned_scores(table, rows, score), share, prices)


def _policy(table: OutcomeTable, kind: str, scale: Standardiser, predictor: Predictor, name: str) -> Priced:
    return Priced(
        kind=kind,
        grid=Grid.of(table),
        feature_names=tuple(table.feature_names),
        scale=scale,
        offers=np.arange(table.n_configs),
        predictor=predictor,
        lambda_=0.0,
        name=name,
    )


def _tried(lesson: Lesson, objective: Objective) -> FloatArray:
    if objective.lambda_ is not None:
        return np.array([objective.lambda_])
    return lesson.prices.grid(PRICES_TRIED)


def _pruned(policy: Priced, lesson: Lesson, objective: Objective) -> Priced:
    """Without the configurations that no fit sample is given at any price: predicting them costs FLOPs."""
    step = -(-len(lesson.features) // PRUNED_ON)
    predicted = policy.predictor(lesson.features[::step])
    chosen = [policy.at(price).best(predicted) for price in _tried(lesson, objective)]
    offers = np.unique(np.concatenate(chosen))
    return replace(policy, offers=offers, predictor=policy.predictor.take(offers))


def _at_best_price(policy: Priced, lesson: Lesson, table: OutcomeTable, objective: Objective) -> Trained:
    family = [policy.at(price) for price in _tried(lesson, objective)]
    measured = measure_prices(family, table, split_rows(table, "tune"))
    return measured.trained(family, objective, measured.choose(table, objective))


def measure_prices(family: list[Priced], table: OutcomeTable, rows: IntArray) -> Candidates:
    """`policies.base.measure` of one predictor at several prices; it predicts only once."""
    predicted = family[0].predict(family[0].seen(table, rows))
    values, at = np.asarray(table.score[rows]), np.arange(len(rows))
    overhead = family[0].overhead_flops(table)
    chosen = [policy.best(predicted) for policy in family]
    score = [values[at, configuration].mean(dtype=np.float64) for configuration in chosen]
    cost = [(table.cost_flops[configuration] + overhead).mean() for configuration in chosen]
    return Candidates(np.array(score), np.array(cost))


def _mean_utility(policy: Priced, lesson: Lesson, table: OutcomeTable) -> float:
    """On the tune split, mean over prices of (score - price x cost) / (1 + price)."""
    prices = lesson.prices.grid(PRICES_TRIED)
    measured = measure_prices([policy.at(price) for price in prices], table, split_rows(table, "tune"))
    share = measured.cost_flops / table.cost_flops[table.full]
    return float(((measured.score - prices * share) / (1 + prices)).mean())


def _check(**given: int) -> None:
    for option, value in given.items():
        low, high = LIMITS[option]
        if not low <= value <= high:
            raise UsageError(f"{option} {value}: expected {low} to {high}")


def _part(progress: Progress, before: int, parts: int, done: int, total: int) -> None:
    """Progress of one of several equal parts, as progress of the whole."""
    progress(before * total + done, parts * total)


def _silent(done: int, total: int) -> None:
    pass
