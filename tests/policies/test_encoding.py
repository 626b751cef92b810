import numpy as np
import pytest

from policies.encoding import CLIP, PRICE_NODES, Actions, Prices, Standardiser
from policies.errors import UsageError


def test_features_are_standardised_and_cut():
    rng = np.random.default_rng(0)
    values = rng.normal([5, -3, 7], [2, 0.1, 0], (1000, 3)).astype(np.float32)
    scale = Standardiser.fit(values)
    seen = scale(values)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen[:, :2].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(seen[:, :2].std(axis=0), 1, atol=1e-5)
    assert (seen[:, 2] == 0).all()
    assert scale(np.array([[1e9, -1e9, 3.0]])).tolist() == [[CLIP, -CLIP, 0.0]]
    with pytest.raises(UsageError):
        Standardiser(np.array([np.nan]), np.array([1.0]))


def test_prices_are_told_apart(make_table):
    table = make_table(400)
    prices = Prices.of(table, table.rows("fit"))
    code = prices.code(prices.grid(200))
    assert code.shape == (200, PRICE_NODES)
    np.testing.assert_allclose(code.sum(axis=1), 2, atol=1e-6)
    assert np.linalg.matrix_rank(code) == PRICE_NODES
    np.testing.assert_array_equal(prices.code(np.array([0.0, 1e9])), code[[0, -1]])
    drawn = prices.draw(np.random.default_rng(0), 1000)
    assert drawn.min() >= prices.low
    assert drawn.max() <= prices.high


def test_prices_span_what_matters(make_table):
    """At the low end the best static choice on the fit split is worth it, at the high end the cheapest."""
    table = make_table(4000)
    prices = Prices.of(table, table.rows("fit"))
    score, share = table.score[table.rows("fit")].mean(axis=0), table.cost_flops / table.cost_flops.max()
    assert score[(score - prices.low * share).argmax()] == score.max()
    assert (score - 1.001 * prices.high * share).argmax() == table.cost_flops.argmin()
    assert prices.reaching(prices.high * 3).high == prices.high * 3
    assert prices.reaching(0.0) == prices
    for low, high in ((0, 1), (1, 1), (2, 1), (1, float("inf"))):
        with pytest.raises(UsageError):
            Prices(low, high)


def test_a_table_where_nothing_pays_has_prices(make_table):
    flat = make_table(40, score=np.ones((40, 18)))
    assert Prices.of(flat, np.arange(40)).low > 0


def test_factored_actions_name_every_configuration_once(make_table):
    table = make_table(40)
    actions = Actions.of(table, "factored")
    assert actions.sizes == (3, 2, 3)
    every = np.stack(np.unravel_index(np.arange(18), actions.sizes), axis=1)
    found = actions.configuration(every)
    assert sorted(found) == list(range(18))
    for (t, w, d), index in zip(every, found, strict=True):
        row = table.configs.iloc[index]
        assert (row["tokens"], row["width"], row["depth"]) == ((1, 2, 4)[t], (8, 16)[w], (1, 2, 3)[d])


def test_the_largest_logit_of_each_part_counts(make_table):
    actions = Actions.of(make_table(40), "factored")
    logits = np.random.default_rng(0).normal(size=(50, 8))
    parts = np.stack([logits[:, :3].argmax(1), logits[:, 3:5].argmax(1), logits[:, 5:].argmax(1)], axis=1)
    np.testing.assert_array_equal(actions.best(logits), actions.configuration(parts))


def test_a_grid_with_holes_has_no_factored_actions(make_table):
    table = make_table(40)
    keep = np.arange(17)
    holed = make_table(
        40,
        configs=table.configs.iloc[keep],
        increment_flops=None,
        **{name: getattr(table, name)[:, keep] for name in ("score", "prediction", "nll", "signals")},
    )
    with pytest.raises(UsageError, match="17 of 18 are there"):
        Actions.of(holed, "factored")
    with pytest.raises(UsageError, match="actions both: not known"):
        Actions.of(table, "both")
