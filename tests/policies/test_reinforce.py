"""REINFORCE over a mixer: the published policy, its flaws corrected."""

import numpy as np
import pandas as pd
import pytest
import torch

import policies
from policies.base import measure
from policies.encoding import PRICE_NODES
from policies.errors import InfeasibleError, UsageError
from policies.rl import reinforce
from policies.rl.mixer import Mixer, Shape
from policies.rl.mixer_torch import MixerModule
from policies.table import OutcomeTable

QUICK = {"timesteps": 4096}


def patchy_table(n=3000, seed=0):
    """Hard samples have one bright patch somewhere; only the dear configuration is right about them."""
    rng = np.random.default_rng(seed)
    patches = rng.normal(size=(n, 4, 5))
    hard = rng.random(n) < 0.5
    patches[hard, rng.integers(4, size=hard.sum()), 2] += 6
    score = np.stack([~hard, ~hard, ~hard, np.ones(n, bool)], axis=1)
    grid = pd.DataFrame([(t, d) for t in (1, 2) for d in (1, 2)], columns=["tokens", "depth"])
    return OutcomeTable.from_arrays(
        configs=grid.assign(cost_flops=[1e5, 3e5, 4e5, 1e6], readout_flops=0, memory_bytes=0),
        score=score.astype(np.float32),
        samples=pd.DataFrame({"split": np.resize(["fit", "fit", "tune", "test"], n)}),
        patches=patches,
    )


@pytest.mark.slow
def test_what_patches_show_is_learned_and_every_axis_chosen():
    """Most of the oracle's gain over the best static at two prices, from one training.

    Sampled choices learn slowly: it takes thousands of steps to find that a patch matters.
    """
    table = patchy_table()
    policy = policies.train("reinforce", table, lambda_=0.4, timesteps=300_000).policy
    assert policy.actions.sizes == (2, 2)
    rows = table.rows("test")
    for price in (0.3, 0.5):
        outcome = table.score[rows] - price * table.cost_flops / table.cost_flops.max()
        static, oracle = outcome.mean(axis=0).max(), outcome.max(axis=1).mean()
        chosen = policy.at(price).select(table, rows).configuration
        assert (outcome[np.arange(len(rows)), chosen].mean() - static) / (oracle - static) >= 0.6


def test_the_kept_network_is_the_trained_one():
    torch.manual_seed(0)
    shape = Shape.of(9, 12, 7)
    module = MixerModule(shape, PRICE_NODES).double()
    torch.nn.init.normal_(module.head[2].weight)
    weights = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    assert {name: value.shape for name, value in weights.items()} == shape.tensors()
    x, price = torch.randn(20, 9, 12, dtype=torch.float64), torch.rand(20, PRICE_NODES, dtype=torch.float64)
    expected = module(x, price).detach().numpy()
    np.testing.assert_allclose(
        Mixer(shape, weights)(x.numpy(), price.numpy()), expected, rtol=1e-9, atol=1e-9
    )


def test_the_count_of_the_mixer_is_that_of_torch():
    from torch.utils.flop_counter import FlopCounterMode

    shape = Shape.of(9, 12, 7)
    with FlopCounterMode(display=False) as counter:
        MixerModule(shape, PRICE_NODES)(torch.randn(1, 9, 12), torch.rand(1, PRICE_NODES))
    assert shape.flops == counter.get_total_flops()


def test_each_sample_has_its_own_advantage():
    """Against what is usual at its price; in the long run nothing is earned beyond that."""
    rng, baseline = np.random.default_rng(0), reinforce.Baseline()
    price = np.zeros((256, PRICE_NODES), np.float32)
    price[:128, 0], price[128:, -1] = 2.0, 2.0
    for _ in range(300):
        rewards = np.where(np.arange(256)[:, None] < 128, 0.8, -0.5) + rng.normal(0, 0.1, (256, 3))
        turn = reinforce.Turn(None, torch.from_numpy(price), rewards)
        configuration = rng.integers(3, size=256)
        advantage = baseline.advantage(turn, configuration)
    earned = rewards[np.arange(256), configuration]
    expected = earned - np.where(np.arange(256) < 128, 0.8, -0.5)
    np.testing.assert_allclose(advantage, expected, atol=0.02)
    assert len(np.unique(advantage)) == 256


@pytest.mark.parametrize("changed", [{}, {"patches": np.random.default_rng(0).normal(size=(200, 4, 3))}])
def test_same_seed_same_policy(make_table, changed):
    table = make_table(200, **changed)
    first, again, other = (
        policies.train("reinforce", table, lambda_=0.5, seed=seed, **QUICK).policy for seed in (3, 3, 4)
    )
    assert first.patch_count == (4 if changed else 0)
    assert first.feature_names == (() if changed else table.feature_names)
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name])
    assert any((array != other.arrays()[name]).any() for name, array in first.arrays().items())


def test_the_family_is_measured_as_every_policy_is(make_table):
    table = make_table(400)
    trained = policies.train("reinforce", table, max_drop=0.2, **QUICK)
    expected = measure(trained.family, table, table.rows("tune"))
    found = reinforce._measured(list(trained.family), table, table.rows("tune"))
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-12)
    np.testing.assert_allclose(found.cost_flops, expected.cost_flops, rtol=1e-12)
    assert len(trained.family) == reinforce.PRICES_TRIED


def test_a_grid_with_holes_is_chosen_from_as_a_list(make_table):
    whole = make_table(100)
    part = np.arange(whole.n_configs) != 4
    table = make_table(
        100,
        configs=whole.configs[part],
        score=whole.score[:, part],
        prediction=whole.prediction[:, part],
        nll=whole.nll[:, part],
        signals=whole.signals[:, part],
        increment_flops=whole.increment_flops[part][:, part],
    )
    policy = policies.train("reinforce", table, lambda_=0.3, **QUICK).policy
    assert policy.actions.sizes == (17,)


@pytest.mark.parametrize(
    ("given", "told"),
    [({"timesteps": 0}, "timesteps 0"), ({"seed": 2**70}, "seed"), ({"actions": "free"}, "actions free")],
)
def test_wrong_arguments_are_refused_before_training(make_table, given, told):
    with pytest.raises(UsageError, match=told):
        policies.train("reinforce", make_table(100), **given)


def test_nothing_to_look_at_is_told(make_table):
    bare = make_table(100, features=None, feature_names=None, feature_flops=0)
    with pytest.raises(UsageError, match="needs patches or features"):
        policies.train("reinforce", bare)


def test_a_budget_below_its_own_cost_is_refused(make_table):
    with pytest.raises(InfeasibleError, match="the cheapest is"):
        policies.train("reinforce", make_table(100), flops_target=0.5, **QUICK)


def test_progress_is_told(make_table):
    told = []
    policies.train("reinforce", make_table(100), progress=lambda *done: told.append(done), **QUICK)
    assert told[-1] == (4096, 4096)
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: p["shape"].update(patches=2), "expected finite values"),
        (lambda p: p["shape"].update(outputs=10**9), "a mixer of"),
        (lambda p: p["shape"].update(extra=1), "not a usable policy"),
        (lambda p: p.update(patches=3), "does not fit its inputs"),
        (lambda p: p.update(pool_flops=-5), "looks at"),
        (lambda p: p.update({"lambda": -1}), "finite price"),
        (lambda p: p.pop("prices"), "'prices' is missing"),
    ],
)
def test_changed_policies_are_refused(make_table, tmp_path, change, told):
    import json

    from policies import base
    from policies.errors import FileError

    base.save(policies.train("reinforce", make_table(80), lambda_=0.3, timesteps=1024).policy, tmp_path)
    content = json.loads((tmp_path / "policy.json").read_text())
    change(content["parameters"])
    (tmp_path / "policy.json").write_text(json.dumps(content))
    with pytest.raises(FileError) as refused:
        policies.load(tmp_path)
    assert told in refused.value.message
