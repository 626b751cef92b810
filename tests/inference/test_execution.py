"""Executors answer as running each image alone would, however images are batched."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapcli.errors import InfeasibleError, UsageError
from adapcli.evaluation.outcomes import SIGNAL_NAMES, signals
from adapcli.inference.answers import in_order, portions
from adapcli.inference.anytime import AnytimeRun, run_anytime
from adapcli.inference.grouped import GroupedRun, run_grouped
from adapcli.inference.session import AnytimeSession
from adapcli.model.flops import flops, increments
from adapcli.space import Configuration
from policies.grid import Grid
from policies.live import Looks, Verdict
from policies.threshold import Threshold

SPACE = [Configuration(t, w, d) for t in (1, 2, 5, 8) for w in (6, 13, 24) for d in (1, 2, 3)]


def grid(config):
    cost = [float(flops(config, c, readout="folded", attention="block")) for c in SPACE]
    rows = tuple(("m", c.tokens, c.width, c.depth) for c in SPACE)
    return Grid(("model", "tokens", "width", "depth"), rows, tuple(cost))


def images(n, size=16, seed=0):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Wanderer:
    """Goes on or skips ahead by confidence and margin gained; its chain may lead anywhere, back too."""

    grid: Grid
    chain: tuple[int, ...]
    taus: tuple[float, ...]
    own_flops: int = 11

    def reachable(self) -> tuple[int, ...]:
        return self.chain

    def verdict(self, looks: Looks) -> Verdict:
        stage = [self.chain.index(at) for at in looks.at.tolist()]
        last = np.array([s == len(self.chain) - 1 for s in stage])
        tau = np.array([self.taus[s] for s in stage])
        change = np.nan_to_num(looks.signal("margin") - looks.signals_before[:, 1])
        value = looks.signal("confidence") + change
        forward = np.array([self.chain[min(s + 1, len(self.chain) - 1)] for s in stage])
        skip = np.array([self.chain[min(s + 2, len(self.chain) - 1)] for s in stage])
        go_to = np.where(value > tau, looks.at, np.where(value > tau - 0.05, forward, skip))
        slack = np.minimum(np.abs(value - tau), np.abs(value - tau + 0.05))
        return Verdict(np.where(last, looks.at, go_to), np.where(last, np.inf, slack))


def alone(model, stopper, x, budget=np.inf):
    """One image by itself: (logits, position, cost, smallest slack)."""
    at = stopper.reachable()[0]
    c = SPACE[at]
    session = AnytimeSession(model, x[None], width=c.width).extend(tokens=c.tokens, depth=c.depth)
    looks, least = None, np.inf
    while True:
        logits = session.readout().logits
        cost, seen = session.cost_flops.numpy() + stopper.own_flops, signals(logits).numpy()
        looks = Looks.first(SIGNAL_NAMES, at, seen, cost) if looks is None else looks.then(at, seen, cost)
        verdict = stopper.verdict(looks)
        least, goal = min(least, verdict.slack[0]), int(verdict.go_to[0])
        step = increments(model.config, [SPACE[at], SPACE[goal]])[0, 1]
        if goal == at or cost[0] + step > budget:
            return logits[0], at, int(cost[0]), least
        c, before, at = SPACE[goal], SPACE[at], goal
        if c.width != before.width or c.tokens < before.tokens or c.depth < before.depth:
            session.restart(width=c.width, tokens=c.tokens)
        session.extend(tokens=max(c.tokens, session.tokens), depth=c.depth)


chains = st.lists(st.integers(0, len(SPACE) - 1), min_size=1, max_size=5, unique=True)
taus = st.lists(st.floats(0.15, 0.35), min_size=5, max_size=5)


@settings(max_examples=40, deadline=None)
@given(
    chain=chains,
    taus=taus,
    n=st.integers(0, 17),
    batch=st.integers(1, 6),
    in_flight=st.one_of(st.none(), st.integers(1, 20)),
    portion=st.integers(1, 20),
)
def test_each_image_is_answered_as_if_it_were_alone(make_model, chain, taus, n, batch, in_flight, portion):
    model, x = make_model(), images(n)
    stopper = Wanderer(grid(model.config), tuple(chain), tuple(taus))
    stream = iter(x.split(portion)) if n else iter(())
    found = run_anytime(model, stream, stopper, batch=batch, max_in_flight=in_flight)
    assert len(found.configurations) == len(found.cost_flops) == n
    for i in range(n):
        logits, at, cost, slack = alone(model, stopper, x[i])
        if slack < 1e-4:
            assert found.near > 0
            continue
        assert found.configurations[i] == SPACE[at]
        assert found.cost_flops[i] == cost
        torch.testing.assert_close(found.output.logits[i], logits, atol=1e-5, rtol=1e-5)
        assert found.output.depth[i] == SPACE[at].depth


@settings(max_examples=25, deadline=None)
@given(chain=chains, taus=taus, share=st.floats(0.0, 1.2))
def test_no_image_costs_more_than_the_budget(make_model, chain, taus, share):
    model, x = make_model(), images(9)
    stopper = Wanderer(grid(model.config), tuple(chain), tuple(taus))
    costs = [alone(model, stopper, image)[2] for image in x]
    first = flops(model.config, SPACE[chain[0]], readout="folded", attention="block") + stopper.own_flops
    budget = first + share * (max(costs) - first)
    found = run_anytime(model, x, stopper, batch=4, max_flops=budget)
    assert (found.cost_flops <= budget).all()
    expected = [alone(model, stopper, image, budget) for image in x]
    assert [SPACE[at] for _, at, _, _ in expected] == list(found.configurations)
    assert found.over_budget == sum(cost > paid for cost, paid in zip(costs, found.cost_flops, strict=True))


@pytest.mark.parametrize("depths", [(1, 3, 2), (3, 1, 2), (2, 3, 1)])
def test_a_chain_may_come_back_to_fewer_blocks(make_model, depths):
    model, x = make_model(), images(6)
    chain = tuple(SPACE.index(Configuration(5, 13, depth)) for depth in depths)
    stopper = Threshold(grid(model.config), chain, 0.99)
    found = run_anytime(model, x, stopper, batch=4)
    for i in range(6):
        logits, at, cost, _ = alone(model, stopper, x[i])
        assert (found.configurations[i], found.cost_flops[i]) == (SPACE[at], cost)
        torch.testing.assert_close(found.output.logits[i], logits, atol=1e-5, rtol=1e-5)


def test_a_budget_below_the_first_readout_is_refused(make_model):
    model = make_model()
    stopper = Threshold(grid(model.config), (0, 5), 0.5)
    with pytest.raises(InfeasibleError, match="the first readout, t1 w6 l1, costs"):
        run_anytime(model, images(2), stopper, max_flops=10)


@settings(max_examples=30, deadline=None)
@given(
    chosen=st.lists(st.sampled_from([*SPACE, Configuration(3, 6, 2), Configuration(12, 24, 1)]), max_size=20),
    batch=st.integers(1, 6),
    in_flight=st.one_of(st.none(), st.integers(1, 20)),
    task=st.sampled_from(["classification", "distillation", "segmentation"]),
)
def test_each_image_runs_its_own_configuration(make_model, chosen, batch, in_flight, task):
    """Also numbers of tokens that no session could grow from, and beyond the trained length."""
    model, x = make_model(task=task, output_feat_dim=6), images(len(chosen))
    found = run_grouped(model, x, chosen, batch=batch, max_in_flight=in_flight)
    assert list(found.configurations) == chosen
    for i, configuration in enumerate(chosen):
        with torch.no_grad():
            expected = model(x[i : i + 1], configuration)
        cost = flops(model.config, configuration, readout="folded", attention="block")
        assert found.cost_flops[i] == cost
        for name in ("logits", "features", "maps"):
            if getattr(expected, name) is not None:
                value = getattr(found.output, name)[i : i + 1]
                torch.testing.assert_close(value, getattr(expected, name), atol=1e-5, rtol=1e-4)


def test_a_width_per_block_is_run_too(make_model):
    model, x = make_model(), images(5)
    chosen = [Configuration(2, (24, 6), 2), Configuration(2, (24, 6, 13), 3)] * 2 + [Configuration(2, 24, 3)]
    found = run_grouped(model, x, chosen, batch=2)
    with torch.no_grad():
        expected = torch.cat([model(x[i : i + 1], c).logits for i, c in enumerate(chosen)])
    torch.testing.assert_close(found.output.logits, expected, atol=1e-5, rtol=1e-5)


def test_blocks_in_common_run_once_and_on_full_batches(make_model, monkeypatch):
    """16 images at four depths, batch 4: the first block runs four full batches, the last one only one."""
    model = make_model(depth=4)
    sizes: list[tuple[int, int]] = []
    for number, block in enumerate(model.blocks):

        def counted(z, *rest, _run=block.extend, _number=number):
            sizes.append((_number, len(z)))
            return _run(z, *rest)

        monkeypatch.setattr(block, "extend", counted)
    chosen = [Configuration(2, 13, 1 + i % 4) for i in range(16)]
    run_grouped(model, images(16), chosen, batch=4)
    runs = {number: [n for which, n in sizes if which == number] for number in range(4)}
    assert runs[0] == [4, 4, 4, 4]
    assert [sum(runs[number]) for number in range(4)] == [16, 12, 8, 4]
    assert runs[3] == [4]


class Recorded:
    """Model and images, and how many samples were under way at once."""

    def __init__(self, monkeypatch):
        self.most = self.embedded = self.answered = 0
        original = AnytimeSession.__init__

        def begin(session, model, x, **options):
            self.embedded += len(x)
            self.most = max(self.most, self.embedded - self.answered)
            original(session, model, x, **options)

        monkeypatch.setattr(AnytimeSession, "__init__", begin)

    def consume(self, run):
        for piece in run:
            self.answered += len(piece.index)


@pytest.mark.parametrize("limit", [1, 3, 8, 12])
def test_no_more_are_under_way_than_allowed(make_model, monkeypatch, limit):
    model, recorded = make_model(), Recorded(monkeypatch)
    stopper = Threshold(grid(model.config), (0, 1, 2, 20, 35), 0.99)
    recorded.consume(AnytimeRun(model, images(40), stopper, batch=4, max_in_flight=limit))
    assert recorded.answered == 40
    assert recorded.most <= limit
    again = Recorded(monkeypatch)
    chosen = iter([SPACE[i % len(SPACE)] for i in range(40)])
    choose = lambda x: [next(chosen) for _ in x]  # noqa: E731
    again.consume(GroupedRun(model, images(40), choose, batch=4, max_in_flight=limit))
    assert again.most <= limit


def test_a_stream_is_read_no_further_than_needed(make_model):
    model, read = make_model(), []

    def stream():
        for image in images(30).split(1):
            read.append(1)
            yield image

    run = iter(AnytimeRun(model, stream(), Threshold(grid(model.config), (0,), 0.5), batch=4))
    next(run)
    assert len(read) == 4


def test_late_stages_run_full_batches_although_few_reach_them(make_model, monkeypatch):
    """A quarter goes on to the second block: batches of 8 there too, but for the last."""
    model, sizes = make_model(), []
    second = model.blocks[1]
    original = second.extend
    monkeypatch.setattr(second, "extend", lambda z, *rest: (sizes.append(len(z)), original(z, *rest))[1])
    x = images(64)
    first = run_grouped(model, x, [SPACE[0]] * 64)
    tau = float(np.quantile(signals(first.output.logits).numpy()[:, 0], 0.25))
    found = run_anytime(model, x, Threshold(grid(model.config), (0, 1), tau), batch=8)
    assert sum(c.depth == 2 for c in found.configurations) == sum(sizes) == 16
    assert sizes == [8, 8]
    sizes.clear()
    run_anytime(model, x, Threshold(grid(model.config), (0, 1), tau), batch=8, max_in_flight=8)
    assert sum(sizes) == 16
    assert len(sizes) > 2


def test_a_path_may_lead_back_to_fewer_blocks(make_model):
    model = make_model()
    found = run_anytime(model, images(2), Threshold(grid(model.config), (2, 0, 1), 2.0))
    assert found.configurations == (SPACE[1],) * 2
    torch.testing.assert_close(found.output.logits, model(images(2), SPACE[1]).logits, atol=1e-5, rtol=1e-5)


def test_answers_that_are_no_numbers_are_never_sure_and_disturb_nobody(make_model):
    model, x = make_model(), images(5)
    x[2] = torch.nan
    found = run_anytime(model, x, Threshold(grid(model.config), (0, 1, 2), 0.0), batch=2)
    assert found.configurations == (SPACE[0], SPACE[0], SPACE[2], SPACE[0], SPACE[0])
    assert found.output.logits.isnan().any(1).tolist() == [False, False, True, False, False]


def test_decisions_near_the_threshold_are_counted(make_model):
    model, x = make_model(), images(1)
    first = run_grouped(model, x, [SPACE[0]])
    tau = float(signals(first.output.logits)[0, 0])
    near = run_anytime(model, x, Threshold(grid(model.config), (0, 1), tau + 1e-6))
    far = run_anytime(model, x, Threshold(grid(model.config), (0, 1), tau + 1e-2))
    assert (near.near, far.near) == (1, 0)


@dataclass(frozen=True)
class Stray(Wanderer):
    """Goes where it did not say it might."""

    def verdict(self, looks):
        return Verdict(np.full(len(looks.at), 7), np.zeros(len(looks.at)))


ARMS = Grid(("arm",), (("a",), ("b",)), (1.0, 2.0))


def exit_of(grid):
    return Threshold(grid, (0, 1), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, g: run_anytime(m, images(2), exit_of(g), batch=0), "batch 0"),
        (lambda m, g: run_anytime(m, images(2), exit_of(g), max_in_flight=0), "max_in_flight 0"),
        (lambda m, g: run_anytime(m, images(2), exit_of(g), max_flops=np.nan), "max_flops nan"),
        (lambda m, g: run_anytime(m, images(2), Stray(g, (0, 1), (0.5, 0.5))), "did not announce"),
        (lambda m, g: run_anytime(m, [images(2), images(2, 24)], exit_of(g), batch=4), "shape"),
        (lambda m, g: run_anytime(m, images(2), exit_of(ARMS)), "not over tokens, width, depth"),
        (lambda m, g: run_grouped(m, images(3), SPACE[:2]), "2 configurations for 3 images"),
        (lambda m, g: run_grouped(m, images(2), SPACE[:3]), "3 configurations for 2 images"),
        (lambda m, g: run_grouped(m, images(2), [SPACE[0], Configuration(1, 6, 9)]), "depth 9"),
    ],
)
def test_what_cannot_be_run_is_refused(make_model, call, message):
    model = make_model()
    with pytest.raises(UsageError, match=message):
        call(model, grid(model.config))


def test_dense_models_have_no_signals_to_stop_by(make_model):
    model = make_model(task="features", output_feat_dim=6)
    with pytest.raises(UsageError, match="features model"):
        run_anytime(model, images(1), Threshold(grid(model.config), (0,), 0.5))


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 5), max_size=6), size=st.integers(1, 7))
def test_portions_are_the_images_in_order(sizes, size):
    x = images(sum(sizes), 2)
    found = list(portions(iter(x.split(sizes)) if sizes else [], size))
    assert all(len(portion) == size for portion in found[:-1])
    assert torch.equal(torch.cat([x[:0], *found]), x)
    assert all(len(portion) for portion in found)


def test_nothing_in_nothing_out(make_model):
    model = make_model()
    found: Sequence[object] = [
        run_anytime(model, images(0), Threshold(grid(model.config), (0,), 0.5)).configurations,
        run_grouped(model, images(0), []).configurations,
        in_order([]).configurations,
    ]
    assert found == [(), (), ()]
