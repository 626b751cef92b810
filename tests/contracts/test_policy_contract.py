"""What every policy promises, whatever it does inside. A new policy: a subclass with `make`."""

import json
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from policies import base, registry
from policies.anytime.gate import gate_of
from policies.anytime.induction import induce
from policies.anytime.lattice import Lattice
from policies.anytime.path import Path
from policies.anytime.seen import Sight
from policies.baselines import HindsightOracle, RandomMixture, SameAnswerOracle, Static
from policies.encoding import PRICE_NODES, Actions, Prices, Standardiser
from policies.errors import FileError, UsageError
from policies.evaluate import evaluate
from policies.grid import Grid
from policies.live import Looks, Stopper
from policies.network import Network
from policies.rl import anytime
from policies.rl.mixer import Mixer, Shape
from policies.rl.mixer_policy import MixerPolicy
from policies.rl.mixer_policy import Sight as Patches
from policies.rl.network import NetworkPolicy
from policies.rl.recipes import ANYTIME_RECIPES
from policies.supervised.neighbours import Neighbours
from policies.supervised.priced import Priced
from policies.threshold import Threshold, depth_chains


class AnyPolicy:
    """Holds for oracles too."""

    def make(self, table):
        raise NotImplementedError

    @pytest.fixture
    def table(self, make_table):
        return make_table(300)

    @pytest.fixture
    def policy(self, table):
        return self.make(table)

    @pytest.fixture
    def rows(self, table):
        return np.arange(table.n_samples)

    def test_it_is_a_policy(self, policy):
        assert isinstance(policy, base.Policy)
        assert policy.name

    def test_decisions_are_configurations_and_costs(self, policy, table, rows):
        decision = policy.select(table, rows)
        assert decision.configuration.shape == decision.cost_flops.shape == rows.shape
        assert decision.configuration.dtype == np.int64
        assert decision.cost_flops.dtype == np.float64
        assert ((decision.configuration >= 0) & (decision.configuration < table.n_configs)).all()
        assert np.isfinite(decision.cost_flops).all()

    def test_the_chosen_configuration_is_paid_for(self, policy, table, rows):
        decision = policy.select(table, rows)
        assert (decision.cost_flops >= table.cost_flops[decision.configuration]).all()

    def test_neighbours_do_not_change_a_decision(self, policy, table, rows):
        together = policy.select(table, rows)
        for row in rows[:40]:
            alone = policy.select(table, np.array([row]))
            assert alone.configuration[0] == together.configuration[row]
            assert alone.cost_flops[0] == together.cost_flops[row]

    def test_order_and_repetition_do_not_matter(self, policy, table, rows):
        shuffled = np.random.default_rng(0).choice(rows, 500)
        expected, found = policy.select(table, rows), policy.select(table, shuffled)
        np.testing.assert_array_equal(found.configuration, expected.configuration[shuffled])
        np.testing.assert_array_equal(found.cost_flops, expected.cost_flops[shuffled])

    def test_no_samples_no_decisions(self, policy, table):
        assert len(policy.select(table, np.array([], dtype=np.int64)).configuration) == 0

    def test_it_can_be_evaluated(self, policy, table):
        found = evaluate(policy, table, resamples=20)
        assert found.n == len(table.rows("test"))
        assert sum(found.shares) == pytest.approx(1)


class KeptPolicy(AnyPolicy):
    """Holds for policies that can be deployed and kept."""

    def test_no_label_is_read(self, policy, table, rows):
        rng = np.random.default_rng(1)
        blind = replace(
            table,
            score=rng.random(table.score.shape, np.float32),
            agreement=rng.random(table.score.shape, np.float32),
            prediction=rng.permuted(table.prediction),
            nll=rng.random(table.score.shape, np.float32),
            samples=table.samples.assign(target=rng.permutation(table.samples["target"].to_numpy())),
        )
        before, after = policy.select(table, rows), policy.select(blind, rows)
        np.testing.assert_array_equal(before.configuration, after.configuration)
        np.testing.assert_array_equal(before.cost_flops, after.cost_flops)

    def test_what_is_kept_is_what_is_loaded(self, policy, table, rows, tmp_path):
        base.save(policy, tmp_path / "p")
        loaded = registry.load(tmp_path / "p", table)
        before, after = policy.select(table, rows), loaded.select(table, rows)
        np.testing.assert_array_equal(before.configuration, after.configuration)
        np.testing.assert_array_equal(before.cost_flops, after.cost_flops)
        assert (loaded.kind, loaded.name, loaded.grid) == (policy.kind, policy.name, policy.grid)
        assert (loaded.feature_names, loaded.own_flops) == (policy.feature_names, policy.own_flops)

    def test_it_is_kept_twice_only_if_told(self, policy, tmp_path):
        base.save(policy, tmp_path)
        with pytest.raises(UsageError, match="holds a policy already"):
            base.save(policy, tmp_path)
        base.save(policy, tmp_path, overwrite=True)

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"depths": (1, 2)}, "18 / 12 configurations"),
            (
                {"widths": (8, 17)},
                "configuration 3: model=m tokens=1 width=16 depth=1 / model=m tokens=1 width=17",
            ),
            ({"meta": {"fingerprints": {"checkpoint": "other"}}}, "checkpoint abc / other"),
        ],
    )
    def test_another_grid_is_refused(self, policy, table, make_table, tmp_path, changed, told):
        other = make_table(**changed)
        base.save(policy, tmp_path / "p")
        with pytest.raises(FileError) as refused:
            registry.load(tmp_path / "p", other)
        assert told in refused.value.message
        with pytest.raises(FileError, match="made for another grid"):
            evaluate(policy, other)

    def test_other_data_are_welcome(self, policy, make_table):
        evaluate(policy, make_table(seed=5), resamples=5)


class TestStatic(KeptPolicy):
    def make(self, table):
        return Static(Grid.of(table), 4)


class TestRandomMixture(KeptPolicy):
    def make(self, table):
        return RandomMixture(
            Grid.of(table), tuple(np.full(table.n_configs, 1 / table.n_configs).tolist()), seed=3
        )


class DecidesLive(KeptPolicy):
    """Holds for policies that decide after each readout."""

    def test_verdicts_lead_where_the_table_says(self, policy, table, rows):
        """All samples together, one readout after the other: where they stop, and what they have paid."""
        assert isinstance(policy, Stopper)
        expected = policy.select(table, rows)
        first, later = policy.reachable()[0], getattr(policy, "look_flops", 0)
        cost = np.full(len(rows), table.cost_flops[first] + policy.own_flops)
        waiting = [(rows, Looks.first(table.signal_names, first, table.signals[rows, first], cost))]
        stopped, paid = np.full(len(rows), -1), np.zeros(len(rows))
        while waiting:
            some, looks = waiting.pop()
            goal = policy.verdict(looks).go_to
            assert set(goal.tolist()) <= set(policy.reachable())
            stays = goal == looks.at
            stopped[some[stays]], paid[some[stays]] = looks.at[stays], looks.cost_flops[stays]
            for target in set(goal[~stays].tolist()):
                on = np.flatnonzero(goal == target)
                step = table.increment_flops[looks.at[on], target] + later
                shown = table.signals[some[on], target]
                waiting.append((some[on], looks.take(on).then(target, shown, looks.cost_flops[on] + step)))
        np.testing.assert_array_equal(stopped, expected.configuration)
        np.testing.assert_allclose(paid, expected.cost_flops, rtol=1e-12)
        assert len(set(stopped.tolist())) > 1

    def test_a_signal_that_is_not_there_is_named(self, policy, table, rows):
        with pytest.raises(UsageError, match="signal confidence"):
            policy.select(replace(table, signal_names=("a", "b")), rows)
        looks = Looks.first(("a", "b"), policy.reachable()[0], table.signals[:, 0], np.zeros(len(rows)))
        with pytest.raises(UsageError, match="signal confidence"):
            policy.verdict(looks)

    def test_a_damaged_policy_is_refused(self, policy, table, tmp_path):
        """Whatever is missing, or of another kind."""
        base.save(policy, tmp_path / "p")
        whole = json.loads((tmp_path / "p" / "policy.json").read_text())
        for field in whole["parameters"]:
            for wrong in (None, [], "text", {"x": 1}, 10**400):
                damaged = {**whole["parameters"], field: wrong}
                (tmp_path / "p" / "policy.json").write_text(json.dumps({**whole, "parameters": damaged}))
                with suppress(FileError):  # some damage gives another policy, none anything else
                    registry.load(tmp_path / "p", table)
            rest = {name: one for name, one in whole["parameters"].items() if name != field}
            (tmp_path / "p" / "policy.json").write_text(json.dumps({**whole, "parameters": rest}))
            with pytest.raises(FileError):
                registry.load(tmp_path / "p", table)


class TestGate(DecidesLive):
    def make(self, table):
        """Between all configurations; it enters at the first, so that there is something to decide."""
        lattice, rows = Lattice.of(table), np.arange(table.n_samples)
        rules = induce(table, lattice, table.score, rows, 200, np.array([0.3]))
        return gate_of(table, Grid.of(table), lattice, rules, 0, lattice.reachable(0))

    def test_every_look_is_paid(self, policy, table, rows):
        decision = policy.select(table, rows)
        static = Static(policy.grid, 0).select(table, rows).cost_flops
        stopped = decision.configuration == 0
        assert policy.own_flops > 0
        assert (decision.cost_flops[stopped] == static[stopped] + policy.own_flops).all()
        assert (decision.cost_flops[~stopped] >= static[~stopped] + 2 * policy.own_flops).all()


class TestThreshold(DecidesLive):
    def make(self, table):
        return Threshold(Grid.of(table), depth_chains(table)[-1], 0.6)


class TestPath(DecidesLive):
    def make(self, table):
        chain = depth_chains(table)[-1]
        return Path(Grid.of(table), chain, (0.6, 0.4), 0.3)

    def test_every_look_is_paid(self, policy, table, rows):
        decision = policy.select(table, rows)
        looks = 1 + np.array([policy.chain.index(at) for at in decision.configuration])
        assert (decision.cost_flops == table.cost_flops[decision.configuration] + looks).all()


class TestAnytimeNetwork(DecidesLive):
    algo = "ppo"

    def make(self, table):
        """Random weights; it enters at the first configuration."""
        lattice, rng = Lattice.of(table), np.random.default_rng(2)
        sight, prices = Sight.fit(table, lattice), Prices(0.05, 2.0)
        recipe = replace(ANYTIME_RECIPES[self.algo], hidden=(9,))
        blank = anytime._untrained(table, lattice, sight, prices, self.algo, None, recipe)
        policy = anytime.over(blank, lattice, sight, lattice.reachable(0)).at(0.3)
        weights = tuple(rng.normal(size=layer.shape) for layer in policy.network.weights)
        return replace(policy, network=replace(policy.network, weights=weights))

    def test_every_look_is_paid(self, policy, table, rows):
        decision = policy.select(table, rows)
        static = Static(policy.grid, 0).select(table, rows).cost_flops
        stopped = decision.configuration == 0
        assert policy.own_flops == policy.network.flops + 5 * 2
        assert (decision.cost_flops[stopped] == static[stopped] + policy.own_flops).all()
        assert (decision.cost_flops[~stopped] >= static[~stopped] + 2 * policy.own_flops).all()


class TestModelOfStableBaselines(TestAnytimeNetwork):
    """Brought in: it is shown no price, and a cost without what its own network takes."""

    def make(self, table):
        policy = super().make(table)
        first = policy.network.weights[0][:, :-PRICE_NODES]
        network = replace(policy.network, weights=(first, *policy.network.weights[1:]))
        return replace(policy, kind="anytime-sb3", prices=None, network=network, trained_look_flops=0.0)


class TestAnytimeValues(TestAnytimeNetwork):
    """Outputs are values: actions to one goal count as the best of them."""

    algo = "dqn"


class SeesFeatures(KeptPolicy):
    """Holds for policies that decide from features."""

    def expected_own_flops(self, policy):
        raise NotImplementedError

    def test_its_own_cost_is_counted(self, policy, table, rows):
        decision = policy.select(table, rows)
        extra = decision.cost_flops - table.cost_flops[decision.configuration]
        assert (extra == table.feature_flops + self.expected_own_flops(policy)).all()

    def test_features_are_found_by_name(self, policy, table, rows):
        order = [2, 0, 1]
        moved = replace(
            table,
            features=table.features[:, order],
            feature_names=tuple(table.feature_names[i] for i in order),
        )
        np.testing.assert_array_equal(
            policy.select(moved, rows).configuration, policy.select(table, rows).configuration
        )
        with pytest.raises(FileError, match="lacks 1 of the policy's features, the first is 'mean'"):
            policy.select(replace(table, feature_names=("x", "spread", "edges")), rows)

    def test_not_all_samples_are_given_the_same(self, policy, table, rows):
        assert len(set(policy.select(table, rows).configuration.tolist())) > 1


class TestNetwork(SeesFeatures):
    kind, actions = "ppo", "discrete"

    def make(self, table):
        rng = np.random.default_rng(0)
        actions = Actions.of(table, self.actions)
        sizes = [len(table.feature_names) + PRICE_NODES, 7, sum(actions.sizes)]
        return NetworkPolicy(
            kind=self.kind,
            grid=Grid.of(table),
            feature_names=table.feature_names,
            scale=Standardiser.fit(table.features),
            prices=Prices(0.1, 10.0),
            actions=actions,
            network=Network(
                tuple(rng.normal(size=(b, a)) for a, b in pairwise(sizes)),
                tuple(rng.normal(size=b) for b in sizes[1:]),
            ),
            lambda_=0.5,
            name="net",
        )

    def expected_own_flops(self, policy):
        layers = policy.network.weights
        return 2 * sum(a.shape[0] * a.shape[1] for a in layers) + 2 * len(policy.feature_names)


class TestFactoredNetwork(TestNetwork):
    kind, actions = "a2c", "factored"


class TestPriced(SeesFeatures):
    kind = "linear"

    def make(self, table):
        offers = np.array([1, 4, 17])
        return Priced(
            kind=self.kind,
            grid=Grid.of(table),
            feature_names=table.feature_names,
            scale=Standardiser.fit(table.features),
            offers=offers,
            predictor=self.predictor(np.random.default_rng(0), len(table.feature_names), len(offers)),
            lambda_=0.5,
            name="priced",
        )

    def predictor(self, rng, n_features, n_offers):
        return Network((rng.normal(size=(n_offers, n_features)),), (rng.normal(size=n_offers),))

    def expected_own_flops(self, policy):
        return 2 * 3 * 3 + 2 * 3 + 2 * 3


class TestPricedNeighbours(TestPriced):
    kind = "knn"

    def predictor(self, rng, n_features, n_offers):
        points = rng.normal(size=(50, n_features)).astype(np.float32)
        outcomes = rng.random((50, n_offers), dtype=np.float32)
        return Neighbours(points, outcomes, rng.integers(1, 9, 50).astype(np.float32), k=7)

    def expected_own_flops(self, policy):
        distances, choice, average = 50 * (2 * 3 + 1), 50, 2 * 7 * 3 + 3
        return distances + choice + average + 2 * 3 + 2 * 3


class TestMixer(SeesFeatures):
    def sight(self, table):
        return Patches(tuple(table.feature_names))

    def make(self, table):
        rng, actions, sight = np.random.default_rng(0), Actions.of(table, "factored"), self.sight(table)
        seen = sight.inputs(table, np.arange(table.n_samples))
        shape = Shape.of(*seen.shape[1:], sum(actions.sizes))
        weights = {name: rng.normal(size=size) for name, size in shape.tensors().items()}
        # A random network would see little but its own biases and the price.
        weights["head.0.weight"][:, shape.channels :] = 0
        weights |= {name: np.zeros_like(value) for name, value in weights.items() if "bias" in name}
        weights |= {name: np.ones_like(value) for name, value in weights.items() if "norm.weight" in name}
        scale = Standardiser.fit(seen.reshape(-1, seen.shape[2]))
        grid, prices = Grid.of(table), Prices(0.1, 10.0)
        return MixerPolicy(grid, sight, scale, prices, actions, Mixer(shape, weights), 0.5, "mixer")

    def expected_own_flops(self, policy):
        """Three features are one patch of three channels: two hidden units mix it, one its channels."""
        tokens, channels = 2 * 1 * 2 * 3, 2 * 3 * 1 * 1
        head = (3 + PRICE_NODES) * 64 + 64 * sum(policy.actions.sizes)
        return 2 * (2 * (tokens + channels) + head) + 2 * 3


class TestMixerOnPatches(KeptPolicy):
    @pytest.fixture
    def table(self, make_table):
        return self.with_patches(make_table, 0)

    def with_patches(self, make_table, seed):
        patches = np.random.default_rng(seed).normal(size=(300, 4, 6))
        meta = {"fingerprints": {"checkpoint": "abc"}, "patches": {"side": 2, "pool_flops": 55}}
        return make_table(300, seed=seed, patches=patches, meta=meta)

    def make(self, table):
        return TestMixer.make(self, table)

    def sight(self, table):
        return Patches.of(table)

    def test_its_own_cost_is_counted(self, policy, table, rows):
        """Nothing for features, which it does not look at."""
        decision = policy.select(table, rows)
        extra = decision.cost_flops - table.cost_flops[decision.configuration]
        tokens, channels = 2 * 4 * 8 * 6, 2 * 6 * 3 * 4
        head = (6 + PRICE_NODES) * 64 + 64 * sum(policy.actions.sizes)
        assert (extra == 2 * (2 * (tokens + channels) + head) + 2 * 4 * 6 + 55).all()

    def test_other_data_are_welcome(self, policy, make_table):
        evaluate(policy, self.with_patches(make_table, 5), resamples=5)

    def test_a_table_without_patches_is_refused(self, policy, make_table):
        with pytest.raises(FileError, match="looks at 4 patches, the table has 0") as refused:
            policy.select(make_table(300), np.arange(5))
        assert "adap sweep --patches 2" in refused.value.hint


class TestHindsightOracle(AnyPolicy):
    def make(self, table):
        return HindsightOracle()


class TestSameAnswerOracle(AnyPolicy):
    def make(self, table):
        return SameAnswerOracle()
