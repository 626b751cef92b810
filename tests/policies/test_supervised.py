"""Policies with full feedback: knn, linear, supervised."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

import policies
from policies.base import measure
from policies.encoding import Prices
from policies.errors import FileError, InfeasibleError, UsageError
from policies.supervised import ALGORITHMS, descent, ridge, targets, training
from policies.supervised.neighbours import Neighbours
from policies.table import OutcomeTable


def easy_table(n=4000, *, seed=0, n_features=4):
    """One feature decides: where it is high, only the dear configurations are right."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, n_features)).astype(np.float32)
    hard = features[:, 2] > 0
    score = np.stack([~hard, ~hard, ~hard, np.ones(n, bool)], axis=1)
    grid = pd.DataFrame([(t, d) for t in (1, 2) for d in (1, 2)], columns=["tokens", "depth"])
    return OutcomeTable.from_arrays(
        configs=grid.assign(cost_flops=[10_000, 30_000, 40_000, 100_000], readout_flops=0, memory_bytes=0),
        score=score.astype(np.float32),
        samples=pd.DataFrame({"split": np.resize(["fit", "fit", "tune", "test"], n)}),
        features=features,
        feature_flops=10,
    )


def gain(policy, table, price):
    """Of what the oracle gains over the best static, the part that the policy gains, its own cost aside."""
    rows = table.rows("test")
    chosen = policy.select(table, rows).configuration
    outcome = table.score[rows] - price * table.cost_flops / table.cost_flops.max()
    static, oracle = outcome.mean(axis=0).max(), outcome.max(axis=1).mean()
    return (outcome[np.arange(len(rows)), chosen].mean() - static) / (oracle - static)


@pytest.mark.parametrize(
    ("algo", "least"),
    [("linear", {0.5: 0.9}), ("knn", {0.2: 0.7, 0.5: 0.8}), ("supervised", {0.2: 0.9, 0.3: 0.9, 0.5: 0.95})],
)
def test_what_is_easy_is_learned(algo, least):
    """One training, several prices. A line misses a step except in its middle; neighbours blur it."""
    table = easy_table()
    policy = policies.train(algo, table, lambda_=0.3).policy
    for price, share in least.items():
        assert gain(policy.at(price), table, price) >= share


def test_a_step_needs_a_bend(make_table):
    """What no straight line says, the network learns: hard in the middle, easy at both ends."""
    table = easy_table(8000)
    middle = np.abs(table.features[:, 2]) < 0.67
    score = np.stack([~middle, ~middle, ~middle, np.ones(len(middle), bool)], axis=1).astype(np.float32)
    table = OutcomeTable.from_arrays(
        configs=table.configs, score=score, samples=table.samples, features=table.features, feature_flops=10
    )
    line, bent = (policies.train(algo, table, lambda_=0.4).policy for algo in ("linear", "supervised"))
    assert gain(line, table, 0.4) < 0.1
    assert gain(bent, table, 0.4) > 0.7


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_the_family_is_measured_as_every_policy_is(make_table, algo):
    table = make_table(400)
    trained = policies.train(algo, table, max_drop=0.1)
    expected = measure(trained.family, table, table.rows("tune"))
    found = training.measure_prices(list(trained.family), table, table.rows("tune"))
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-12)
    np.testing.assert_allclose(found.cost_flops, expected.cost_flops, rtol=1e-12)
    at = trained.family.index(trained.policy)
    assert (trained.score, trained.cost_flops) == (found.score[at], found.cost_flops[at])


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_dearer_prices_never_cost_more(make_table, algo):
    """The scores do not depend on the price, so every sample's cost falls with it."""
    table = make_table(400)
    family = policies.train(algo, table).family
    assert [policy.lambda_ for policy in family] == sorted(policy.lambda_ for policy in family)
    costs = np.stack([policy.select(table, np.arange(400)).cost_flops for policy in family])
    assert (np.diff(costs, axis=0) <= 0).all()
    assert costs[0].mean() > costs[-1].mean()


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_leaving_out_what_is_never_chosen_changes_no_choice_on_fit(make_table, algo):
    table = make_table(400)
    policy = policies.train(algo, table, lambda_=0.4).policy
    assert len(policy.offers) < table.n_configs
    rows = table.rows("fit")
    chosen = policy.select(table, rows).configuration
    assert set(chosen.tolist()) == set(policy.offers.tolist())


@pytest.mark.parametrize("algo", ["knn", "supervised"])
def test_same_seed_same_policy(make_table, algo):
    table = make_table(400)
    given = {"prototypes": 30} if algo == "knn" else {}
    first, again, other = (
        policies.train(algo, table, seed=seed, **given).policy.arrays() for seed in (3, 3, 4)
    )
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    assert any(not np.array_equal(array, other[name]) for name, array in first.items())


def test_ridge_is_ridge():
    """With the penalty that it chose, the same as scikit-learn's."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)).astype(np.float32)
    scores = (x @ rng.normal(size=(5, 7)) + rng.normal(size=(300, 7)) + 3).astype(np.float32)
    network = ridge.ridge(x, scores)
    fits = [Ridge(alpha=a * 300).fit(x.astype(float), scores.astype(float)) for a in ridge.STRENGTHS]
    distances = [np.abs(network(x) - fit.predict(x)).max() for fit in fits]
    assert min(distances) < 1e-6
    # Generalised cross-validation against the real thing, leaving each sample out in turn.
    errors = []
    for a in ridge.STRENGTHS:
        centred = x - x.mean(axis=0)
        hat = centred @ np.linalg.solve(centred.T @ centred + a * 300 * np.eye(5), centred.T) + 1 / 300
        residual = (scores - hat @ scores) / (1 - np.diag(hat))[:, None]
        errors.append((residual**2).sum())
    assert abs(int(np.argmin(errors)) - int(np.argmin(distances))) <= 1


def test_ridge_survives_constant_and_repeated_features():
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    x = np.column_stack([x, np.zeros(50, np.float32), x[:, 0]])
    network = ridge.ridge(x, (x[:, :1] > 0).astype(np.float32))
    assert np.isfinite(network(x)).all()
    assert np.corrcoef(network(x)[:, 0], x[:, 0])[0, 1] > 0.7


@pytest.mark.parametrize("k", [1, 5, 200])
def test_as_many_prototypes_as_samples_are_plain_nearest_neighbours(k):
    rng = np.random.default_rng(0)
    x, scores = rng.normal(size=(200, 4)).astype(np.float32), rng.random((200, 6), dtype=np.float32)
    fitted = Neighbours.fit(x, scores, prototypes=200, seed=0)
    fitted = Neighbours(fitted.prototypes, fitted.outcomes, fitted.weights, k)
    seen = rng.normal(size=(90, 4)).astype(np.float32)
    expected = KNeighborsRegressor(k, algorithm="brute").fit(x, scores).predict(seen)
    np.testing.assert_allclose(fitted(seen), expected, rtol=1e-5)


def test_prototypes_stand_for_all_samples():
    """Each for those nearest to it: together, the mean of all."""
    rng = np.random.default_rng(0)
    x, scores = rng.normal(size=(500, 4)).astype(np.float32), rng.random((500, 3), dtype=np.float32)
    fitted = Neighbours.fit(x, scores, prototypes=20, seed=1)
    assert fitted.weights.sum() == 500
    home = np.square(x[:, None] - fitted.prototypes[None]).sum(axis=2).argmin(axis=1)
    for at in range(20):
        np.testing.assert_allclose(fitted.outcomes[at], scores[home == at].mean(axis=0), rtol=1e-5)
    everyone = Neighbours(fitted.prototypes, fitted.outcomes, fitted.weights, 20)(x[:3])
    np.testing.assert_allclose(everyone, np.tile(scores.mean(axis=0), (3, 1)), rtol=1e-5)


def test_twins_among_the_prototypes():
    x = np.repeat(np.arange(5, dtype=np.float32)[:, None], 4, axis=0)
    fitted = Neighbours.fit(x, x, prototypes=15, seed=0)
    assert (fitted.weights >= 1).all()
    assert fitted.weights.sum() == 20


def test_the_slope_is_that_of_the_expected_utility():
    """The hand-derived gradient against torch's own, of the formula in the docstring."""
    import torch

    generator = torch.Generator().manual_seed(0)
    g, scores, share = (torch.rand(5, 7, generator=generator, dtype=torch.float64) for _ in range(3))
    price, share = torch.rand(5, 1, generator=generator, dtype=torch.float64) * 3, share[0]
    g.requires_grad_()
    temperature = 0.2 * (1 + price)
    log_p = ((g - price * share) / temperature).log_softmax(dim=1)
    p = log_p.exp()
    utility = (p * (scores - price * share) - temperature * p * log_p).sum(1, keepdim=True)
    (-utility / (1 + price)).mean().backward()
    torch.testing.assert_close(descent._slope(g.detach(), scores, (price, share), 0.2), g.grad)


def test_the_network_begins_as_the_best_static_choice(make_table, monkeypatch):
    monkeypatch.setattr(training, "PACES", [descent.Pace(1e-12, 0.0, 0.1)])
    table = make_table(400)
    policy = policies.train("supervised", table, lambda_=0.3, score="hard").policy
    score = table.score[table.rows("fit")].mean(axis=0, dtype=np.float64)
    best = (score - 0.3 * table.cost_flops / table.cost_flops.max()).argmax()
    assert set(policy.select(table, np.arange(400)).configuration) == {best}


def test_soft_scores_have_the_means_of_the_hard_ones(make_table):
    table = make_table(200)
    rows = table.rows("fit")
    hard, soft = (targets.learned_scores(table, rows, kind) for kind in ("hard", "soft"))
    np.testing.assert_array_equal(hard, table.score[rows])
    np.testing.assert_allclose(soft.mean(axis=0), hard.mean(axis=0), atol=1e-6)
    likely = np.exp(-table.nll[rows])
    np.testing.assert_allclose(soft - soft[0], likely - likely[0], atol=1e-6)
    np.testing.assert_array_equal(targets.learned_scores(table, rows, None), soft)


def test_without_nll_scores_are_hard(make_table):
    table = make_table(200, prediction=None, nll=None)
    rows = table.rows("fit")
    np.testing.assert_array_equal(targets.learned_scores(table, rows, None), table.score[rows])
    with pytest.raises(UsageError, match="soft scores need nll"):
        policies.train("linear", table, score="soft")


@pytest.mark.parametrize(
    ("algo", "given", "told"),
    [
        ("linear", {"score": "warm"}, "score 'warm': not known"),
        ("knn", {"prototypes": 0}, "prototypes 0: expected 1 to"),
        ("knn", {"seed": -1}, "seed -1"),
        ("supervised", {"seed": 2**70}, "seed"),
        ("linear", {"seed": 1}, "linear has no option seed"),
    ],
)
def test_wrong_arguments_are_refused(make_table, algo, given, told):
    with pytest.raises(UsageError, match=told):
        policies.train(algo, make_table(100), **given)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_budget_that_the_policy_itself_exceeds_is_refused(make_table, algo):
    with pytest.raises(InfeasibleError, match="the cheapest is"):
        policies.train(algo, make_table(100), flops_target=0.3)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_tables_without_features_or_with_little_still_train(make_table, algo):
    bare = make_table(200, features=None, feature_names=None, feature_flops=0)
    policy = policies.train(algo, bare, lambda_=0.1).policy
    assert len(set(policy.select(bare, np.arange(200)).configuration)) == 1
    policies.train(algo, make_table(8), lambda_=0.1)
    empty = make_table(8).take(np.arange(1, 8, 4))
    with pytest.raises(FileError, match="no samples in split fit"):
        policies.train(algo, empty)


def test_progress_is_told(make_table):
    told = []
    policies.train("supervised", make_table(100), progress=lambda *done: told.append(done))
    assert told[-1] == (2 * descent.LEAST_STEPS, 2 * descent.LEAST_STEPS)
    assert told == sorted(told)


def test_the_price_asked_for_is_within_what_was_learned(make_table):
    table = make_table(400)
    rows = table.rows("fit")
    dear = Prices.of(table, rows).high * 3
    policy = policies.train("supervised", table, lambda_=dear).policy
    assert policy.lambda_ == dear
    assert set(policy.select(table, rows).configuration) == {int(table.cost_flops.argmin())}
