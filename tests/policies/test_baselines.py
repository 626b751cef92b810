import json
import tarfile
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from policies import pareto, registry
from policies.baselines import HindsightOracle, RandomMixture, SameAnswerOracle, Static, uniform
from policies.errors import InfeasibleError, UsageError
from policies.grid import Grid
from policies.table import OutcomeTable

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT.parent / "shared/reference/oracle_imagenet/minimal_config.tar.gz"


@pytest.fixture
def table(make_table):
    return make_table(400)


def test_oracles_equal_a_loop_over_samples(table):
    rows = np.arange(table.n_samples)
    by_cost = sorted(range(table.n_configs), key=lambda c: table.cost_flops[c])
    for oracle, allowed, otherwise in (
        (HindsightOracle(), table.score, by_cost[0]),
        (HindsightOracle(wrong="full"), table.score, table.full),
        (SameAnswerOracle(), table.agreement, table.full),
    ):
        expected = [next((c for c in by_cost if allowed[r, c] == 1), otherwise) for r in rows]
        np.testing.assert_array_equal(oracle.select(table, rows).configuration, expected)


def test_scores_that_are_no_hits(table, make_table):
    graded = make_table(400, score=np.random.default_rng(0).random(table.score.shape))
    rows = np.arange(400)
    best = graded.score[rows, HindsightOracle().select(graded, rows).configuration]
    np.testing.assert_array_equal(best, graded.score.max(axis=1))
    near = HindsightOracle(tolerance=0.1).select(graded, rows)
    assert (graded.score[rows, near.configuration] >= best - 0.1).all()
    assert near.cost_flops.mean() < HindsightOracle().select(graded, rows).cost_flops.mean()


@pytest.fixture(scope="module")
def published():
    """The published oracle data, per image the cheapest correct of 378 configurations, as a table."""
    if not PUBLISHED.exists():
        pytest.skip("the published oracle data are not here")
    import adapcli

    config = json.loads((ROOT / "tests/golden/flops_full_size_in1k.json").read_text())["config"]
    model = adapcli.ModelConfig.from_published(config)
    with tarfile.open(PUBLISHED) as archive:
        images = json.load(archive.extractfile("data.json"))
    grid = list(product(config["mask_token_grans"], config["mat_dims"], range(1, 22)))
    place = {values: i for i, values in enumerate(grid)}
    score = np.zeros((len(images), len(grid)), np.float32)
    for row, image in enumerate(images.values()):
        found = image["optimal config"]
        if image["correct"]:
            score[row, place[found["token_gran"], found["mat_dim"], found["depth"]]] = 1
    cost = [adapcli.flops(model, adapcli.Configuration(*values), image_size=(224, 224)) for values in grid]
    configs = pd.DataFrame(grid, columns=["tokens", "width", "depth"])
    return OutcomeTable.from_arrays(
        configs=configs.assign(cost_flops=cost, readout_flops=0, memory_bytes=0),
        score=score,
        samples=pd.DataFrame({"split": ["test"] * len(score)}),
    )


def test_the_published_oracle_is_reproduced(published):
    rows = np.arange(published.n_samples)
    assert len(rows) == 50_000
    full = HindsightOracle(wrong="full").select(published, rows)
    assert published.score[rows, full.configuration].mean(dtype=np.float64) == 0.94104
    assert full.cost_flops.mean() / 1e9 == pytest.approx(8.389, abs=5e-4)
    assert HindsightOracle().select(published, rows).cost_flops.mean() / 1e9 == pytest.approx(4.04, abs=5e-3)


def test_random_draws_are_uniform_and_differ_by_seed():
    rows = np.arange(100_000)
    drawn = uniform(0, rows)
    assert ((drawn >= 0) & (drawn < 1)).all()
    counts = np.bincount((drawn * 20).astype(int), minlength=20)
    assert ((counts - 5000) ** 2 / 5000).sum() < 45  # chi square, 19 degrees: p < 0.001 beyond 43.8
    for shift, other in ((1, uniform(0, rows)), (0, uniform(1, rows))):
        assert abs(np.corrcoef(drawn[: len(rows) - shift], other[shift:])[0, 1]) < 0.015


def test_a_mixture_has_its_shares(table):
    shares = np.zeros(table.n_configs)
    shares[[2, 9]] = 0.25, 0.75
    chosen = RandomMixture(Grid.of(table), tuple(shares)).select(table, np.arange(100_000) % 400)
    assert set(chosen.configuration) == {2, 9}
    many = RandomMixture(Grid.of(table), tuple(shares)).select(table, np.arange(100_000)).configuration
    assert (many == 9).mean() == pytest.approx(0.75, abs=0.01)
    for wrong in (shares[:-1], shares * 0.9, np.where(shares == 0, -0.1, shares), shares * np.nan):
        with pytest.raises(UsageError):
            RandomMixture(Grid.of(table), tuple(wrong))


def test_static_is_the_best_affordable_on_tune(table):
    share = table.cost_flops / table.cost_flops[table.full]
    scores = table.score[table.rows("tune")].mean(axis=0)
    for target in (0.5, 0.8, 1.0):
        found = registry.train("static", table, flops_target=target)
        assert found.score == pytest.approx(scores[share <= target].max())
        assert share[found.policy.configuration] <= target
    with pytest.raises(InfeasibleError, match="the cheapest is 0"):
        registry.train("static", table, flops_target=0.01)
    with pytest.raises(UsageError, match="the grid has 18"):
        Static(Grid.of(table), 18)


@pytest.mark.parametrize(("drop", "cost_flops"), [(0.01, 10.0), (0.009, 100.0), (0.0, 100.0)])
def test_a_drop_of_exactly_as_much_as_allowed_is_allowed(drop, cost_flops):
    hits = np.arange(4000)[:, None] < [3600, 3640]  # 0.90 and 0.91, which single precision rounds upwards
    configs = pd.DataFrame(
        {"depth": [1, 2], "cost_flops": [10.0, 100.0], "readout_flops": 0, "memory_bytes": 0}
    )
    table = OutcomeTable.from_arrays(
        configs=configs, score=hits.astype(np.float32), samples=pd.DataFrame({"split": ["tune"] * 4000})
    )
    trained = registry.train("static", table, max_drop=drop)
    assert (trained.met, trained.cost_flops) == (True, cost_flops)


def test_a_trained_mixture_lies_on_the_hull_of_tune(table):
    scores = table.score[table.rows("tune")].mean(axis=0, dtype=np.float64)
    for target in (0.5, 0.7, 0.9):
        found = registry.train("random", table, flops_target=target, seed=1)
        assert found.cost_flops <= target * table.cost_flops.max() * (1 + 1e-9)
        on_hull = pareto.score_at(table.cost_flops, scores, found.cost_flops)
        assert found.score == pytest.approx(float(on_hull))
