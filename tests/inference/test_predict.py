"""Predictions equal the model's own answers on the same pictures, whichever way they are run."""

from dataclasses import dataclass
from itertools import count, islice, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adapcli
from adapcli.data.features import feature_flops, feature_names, image_features
from adapcli.data.pictures import Picture
from adapcli.errors import FileError, InfeasibleError, UsageError
from adapcli.evaluation.outcomes import signals
from adapcli.inference import predict
from adapcli.inference.predict import Predictor
from adapcli.model.flops import flops, increments
from adapcli.space import Configuration
from adapcli.sweep.samples import Samples
from adapcli.sweep.sweep import Sweep
from policies.baselines import RandomMixture, Static
from policies.encoding import PRICE_NODES, Actions, Prices, Standardiser
from policies.grid import Grid
from policies.network import Network
from policies.registry import train
from policies.rl.network import NetworkPolicy
from policies.threshold import Threshold

GRID = [Configuration(t, w, d) for t in (1, 2, 8) for w in (6, 24) for d in (1, 2, 3)]
FEATURES = ("detail", "cell_3_4", "mean", "std", "cell_0_0")


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


def executed(model, configuration):
    return flops(model.config, configuration, readout="folded", attention="block")


def grid_of(model, configurations=GRID):
    rows = tuple((c.tokens, c.width, c.depth) for c in configurations)
    return Grid(("tokens", "width", "depth"), rows, tuple(float(executed(model, c)) for c in configurations))


def network(grid, names=FEATURES, seed=0):
    """A policy of random weights: looks at some features, in an order of its own, and chooses many ways."""
    rng, n = np.random.default_rng(seed), len(grid)
    network = Network((rng.normal(size=(n, len(names) + PRICE_NODES)),), (np.zeros(n),))
    actions, scale = Actions((n,), tuple(range(n))), Standardiser(np.full(5, 0.4), np.full(5, 0.02))
    return NetworkPolicy("ppo", grid, names, scale, Prices(0.01, 1.0), actions, network, 0.1, "ppo")


def pictures(n=40, size=16, seed=0, unreadable=()):
    x = torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed))
    return [
        Picture(f"{i}.png", reason="damaged") if i in unreadable else Picture(f"{i}.png", x[i])
        for i in range(n)
    ]


def stacked(found):
    return torch.stack([picture.image for picture in found])


@torch.no_grad()
def same_as_direct(model, found, predictions, top=1):
    """Every prediction is the model's own answer at the configuration that it names."""
    assert [p.path for p in predictions] == [picture.path for picture in found]
    for picture, prediction in zip(found, predictions, strict=True):
        share = model(picture.image[None], prediction.configuration).logits[0].softmax(-1)
        expected, classes = share.topk(top)
        assert prediction.classes == tuple(classes.tolist())
        assert prediction.confidences == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("configuration", [GRID[0], GRID[7], Configuration(5, 13, 2)])
def test_one_configuration_for_all(model, configuration):
    found = pictures()
    predictions = list(Predictor(model, found, configuration, batch=7, top=3))
    same_as_direct(model, found, predictions, top=3)
    assert {p.configuration for p in predictions} == {configuration}
    assert {p.cost_flops for p in predictions} == {executed(model, configuration)}


@given(
    batch=st.integers(1, 9),
    in_flight=st.none() | st.integers(1, 20),
    window=st.integers(1, 30),
    kind=st.sampled_from(["static", "threshold", "network"]),
)
@settings(max_examples=25, deadline=None)
def test_batches_and_windows_change_nothing(model, batch, in_flight, window, kind):
    found, grid = pictures(23), grid_of(model)
    how = {
        "static": Static(grid, 4),
        "threshold": Threshold(grid, (0, 1, 8, 17), 0.4),
        "network": network(grid),
    }[kind]
    expected = list(Predictor(model, found, how, batch=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "WINDOW", window)
        patch.setattr(predict, "WINDOW_BATCHES", 1)
        predictor = Predictor(model, found, how, batch=batch, max_in_flight=in_flight)
        predictions = list(predictor)
    same_as_direct(model, found, predictions)
    assert predictor.tally.near == 0
    assert [(p.configuration, p.cost_flops) for p in predictions] == [
        (p.configuration, p.cost_flops) for p in expected
    ]
    assert kind == "static" or len(predictor.tally.configurations) > 1


def test_a_network_sees_its_features_in_its_own_order_and_pays_for_them(model):
    found, policy = pictures(), network(grid_of(model))
    columns = [feature_names().index(name) for name in FEATURES]
    chosen = policy.choose(image_features(stacked(found))[:, columns].numpy())
    predictions = list(Predictor(model, found, policy, batch=8))
    assert [p.configuration for p in predictions] == [GRID[at] for at in chosen]
    assert len(set(chosen.tolist())) > 3
    overhead = feature_flops((16, 16), 1) + policy.own_flops
    assert [p.cost_flops for p in predictions] == [executed(model, GRID[at]) + overhead for at in chosen]


def test_a_static_policy_costs_no_more_than_its_configuration(model):
    (prediction, *_) = Predictor(model, pictures(3), Static(grid_of(model), 4))
    assert prediction.cost_flops == executed(model, GRID[4])


@torch.no_grad()
def test_a_threshold_stops_where_the_confidence_says(model):
    found, chain, tau = pictures(), (0, 1, 8, 17), 0.4
    x = stacked(found)
    confidence = np.stack([signals(model(x, GRID[at]).logits)[:, 0].numpy() for at in chain], axis=1)
    confidence[:, -1] = 1
    stage = (confidence >= tau).argmax(axis=1)
    steps = [increments(model.config, [GRID[a], GRID[b]])[0, 1] for a, b in pairwise(chain)]
    costs = np.cumsum([executed(model, GRID[chain[0]]), *steps])
    predictions = list(Predictor(model, found, Threshold(grid_of(model), chain, tau), batch=8))
    assert [p.configuration for p in predictions] == [GRID[chain[s]] for s in stage]
    assert [p.cost_flops for p in predictions] == [int(costs[s]) for s in stage]
    assert len(set(stage.tolist())) > 2


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The packaged model, scenes of digits with features, and a table of both."""
    model = adapcli.load(adapcli.packaged())
    samples = Samples.open("digits", model.preprocessing, limit=600, class_names=model.class_names)
    space = model.config.space.restrict(tokens=(2, 8), widths=(32, 64))
    return model, samples, Sweep(model, samples, space).run(tmp_path_factory.mktemp("sweep") / "table")


@pytest.mark.parametrize("kind", ["threshold", "network"])
def test_what_runs_is_what_was_evaluated(swept, kind):
    """Sample by sample, the configuration and the cost that the table promised."""
    model, samples, table = swept
    rows = table.rows("test")
    if kind == "threshold":
        policy = train("threshold", table, flops_target=0.4).policy
        assert len(policy.chain) > 1
    else:
        policy = network(Grid.of(table))
    data = samples.splits["test"]
    batch = data.batch(0, len(data))
    found = [Picture(name, image) for name, image in zip(batch.sample_ids, batch.images, strict=True)]
    predictor = Predictor(model, found, policy)
    predictions, promised = list(predictor), policy.select(table, rows)
    names = table.configs[["tokens", "width", "depth"]]
    expected = [Configuration(*map(int, names.iloc[at])) for at in promised.configuration]
    assert [p.path for p in predictions] == table.samples["sample_id"].to_numpy()[rows].tolist()
    other = [p.configuration != c for p, c in zip(predictions, expected, strict=True)]
    assert sum(other) <= predictor.tally.near <= len(rows) // 100
    same = ~np.array(other)
    cost = np.array([p.cost_flops for p in predictions])
    np.testing.assert_array_equal(cost[same], promised.cost_flops[same])
    answers = table.prediction[rows, promised.configuration][same]
    np.testing.assert_array_equal(np.array([p.classes[0] for p in predictions])[same], answers)
    assert len(predictor.tally.configurations) > 1
    mean = predictor.tally.cost_flops / predictor.tally.predicted
    assert mean == pytest.approx(promised.cost_flops.mean(), rel=0.01)


def test_unreadable_pictures_are_told_and_shift_nothing(model):
    found = pictures(20, unreadable=(0, 7, 8, 19))
    predictor = Predictor(model, found, GRID[3], batch=4)
    same_as_direct(model, [picture for picture in found if picture.image is not None], list(predictor))
    tally = predictor.tally
    assert tally.skipped == [(f"{i}.png", "damaged") for i in (0, 7, 8, 19)]
    assert (tally.predicted, tally.configurations) == (16, {GRID[3]: 16})


def test_nothing_readable_is_no_prediction(model):
    predictor = Predictor(model, pictures(3, unreadable=(0, 1, 2)), GRID[3])
    assert (list(predictor), len(predictor.tally.skipped)) == ([], 3)


def test_a_stream_without_end_is_read_no_further_than_it_runs(model):
    asked = []

    def endless():
        image = torch.zeros(1, 16, 16)
        for i in count():
            asked.append(i)
            yield Picture(f"{i}", image)

    predictions = iter(Predictor(model, endless(), GRID[3], batch=4, max_in_flight=8))
    assert [p.path for p in islice(predictions, 100)] == [str(i) for i in range(100)]
    assert len(asked) <= 100 + 2 * 8


@pytest.mark.parametrize("kind", ["network", "threshold"])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_budget_holds_for_every_picture(model, share, kind):
    found, grid = pictures(), grid_of(model)
    policy = network(grid) if kind == "network" else Threshold(grid, (0, 1, 8, 17), 0.4)
    free = list(Predictor(model, found, policy))
    costs = [p.cost_flops for p in free]
    budget = min(costs) + share * (max(costs) - min(costs))
    predictor = Predictor(model, found, policy, max_flops=budget)
    predictions = list(predictor)
    assert max(p.cost_flops for p in predictions) <= budget
    changed = [p.configuration != f.configuration for p, f in zip(predictions, free, strict=True)]
    assert changed == [cost > budget for cost in costs]
    assert predictor.tally.over_budget == sum(changed)
    same_as_direct(model, found, predictions)


def test_a_choice_beyond_the_budget_becomes_the_dearest_smaller_one(model):
    small, wide, deep = Configuration(1, 6, 1), Configuration(8, 24, 1), Configuration(1, 6, 3)
    grid = grid_of(model, [small, wide, deep])
    assert executed(model, small) < executed(model, deep) < executed(model, wide)
    budget = executed(model, wide) - 1
    (prediction,) = Predictor(model, pictures(1), Static(grid, 1), max_flops=budget)
    assert prediction.configuration == small  # deep fits too, but is deeper than what was chosen


def test_budgets_that_nothing_fits(model):
    with pytest.raises(InfeasibleError, match="the configuration costs"):
        Predictor(model, [], GRID[3], max_flops=executed(model, GRID[3]) - 1)
    list(Predictor(model, pictures(1), GRID[3], max_flops=executed(model, GRID[3])))
    for policy in (network(grid_of(model)), Threshold(grid_of(model), (0, 1), 0.4)):
        with pytest.raises(InfeasibleError, match="budget of 10 FLOPs"):
            list(Predictor(model, pictures(1), policy, max_flops=10))


@dataclass(frozen=True)
class Elsewhere:
    """Says what is not in its own grid."""

    grid: Grid
    feature_names: tuple[str, ...] = ()
    own_flops: int = 0

    def choose(self, features):
        return np.zeros(len(features), np.int64)


def test_what_cannot_be_run_is_refused_before_anything_runs(model, make_model):
    grid, unread = grid_of(model), iter(pictures(1))
    uniform = RandomMixture(grid, (1 / len(grid),) * len(grid))
    cases = [
        (uniform, UsageError, "policy random cannot run on pictures"),
        (Elsewhere(grid, ("mean", "smell")), FileError, "1 features .* 'smell'"),
        (Elsewhere(Grid(("model",), (("a",),), (1.0,))), UsageError, "not over tokens, width, depth"),
        (Elsewhere(Grid(("tokens", "width", "depth"), ((1, 6, 9),), (1.0,))), UsageError, "depth 9"),
        (Configuration(1, 6, 9), UsageError, "depth 9"),
    ]
    for how, error, told in cases:
        with pytest.raises(error, match=told):
            Predictor(model, unread, how)
    for top in (0, 8):
        with pytest.raises(UsageError, match="expected 1 to 7"):
            Predictor(model, unread, GRID[0], top=top)
    features = make_model(task="features", output_feat_dim=6)
    with pytest.raises(FileError, match="this checkpoint is for features"):
        Predictor(features, unread, GRID[0])
    assert next(unread).path == "0.png"


def test_ties_go_to_the_first_class(make_model):
    model = make_model()
    with torch.no_grad():
        for parameter in model.output_adapter.parameters():
            parameter.zero_()
    (prediction,) = Predictor(model, pictures(1), GRID[0], top=7)
    assert prediction.classes == tuple(range(7))
    assert prediction.confidences == pytest.approx([1 / 7] * 7)


def test_a_distillation_model_tells_classes_too(make_model):
    model, found = make_model(task="distillation", output_feat_dim=6), pictures(5)
    same_as_direct(model, found, list(Predictor(model, found, GRID[5])))


def test_bfloat16_stays_inside(model):
    found = pictures(9)
    predictor = Predictor(model, found, GRID[-1], batch=4, dtype=torch.bfloat16)
    exact = list(Predictor(model, found, GRID[-1]))
    for rounded, sharp in zip(predictor, exact, strict=True):
        assert not torch.is_autocast_enabled("cpu")
        assert rounded.confidences == pytest.approx(sharp.confidences, abs=0.05)
    assert [p.confidences for p in predictor.__class__(model, found, GRID[-1], dtype=torch.bfloat16)] != [
        p.confidences for p in exact
    ]


def test_seconds_and_waiting(model):
    predictor = Predictor(model, pictures(9), GRID[3])
    list(predictor)
    assert 0 < predictor.tally.waiting_s < predictor.tally.seconds
