"""A session on any path equals the direct run, and nothing is computed twice."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from adapcli.errors import UsageError
from adapcli.inference.session import AnytimeSession
from adapcli.measure.memory import peak_bytes
from adapcli.model.flops import (
    flops,
    increments,
    input_flops,
    memory_bytes,
    readout_flops,
    session_bytes,
    trunk_flops,
)
from adapcli.space import Configuration

TOKENS = (1, 2, 5, 8)

variants = st.fixed_dictionaries(
    {
        "mask": st.sampled_from(["block", "causal"]),
        "ffn": st.sampled_from(["mlp", "swiglu"]),
        "use_embed_ffn": st.booleans(),
        "use_output_ffn": st.booleans(),
    }
)
steps = st.lists(st.tuples(st.sampled_from(TOKENS), st.integers(1, 3)), min_size=1, max_size=5)


def images(n=3, size=16, seed=0):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed))


def monotone(path):
    """The path with every point raised to the largest tokens and depth so far."""
    tokens = depth = 0
    for step in path:
        tokens, depth = max(tokens, step[0]), max(depth, step[1])
        yield tokens, depth


def direct(model, x, session):
    with torch.no_grad():
        return model(x, session.configuration)


@settings(max_examples=40, deadline=None)
@given(variant=variants, path=steps, width=st.sampled_from([6, 13, 24]), seed=st.integers(0, 3))
def test_any_path_answers_like_the_direct_run(make_model, variant, path, width, seed):
    model, x = make_model(seed, **variant), images(seed=seed)
    session = AnytimeSession(model, x, width=width)
    for tokens, depth in monotone(path):
        out = session.extend(tokens=tokens, depth=depth).readout()
        torch.testing.assert_close(out.logits, direct(model, x, session).logits, atol=1e-5, rtol=1e-5)
        assert out.depth.tolist() == [depth] * 3


@settings(max_examples=40, deadline=None)
@given(variant=variants, path=steps, width=st.sampled_from([6, 24]))
def test_cost_is_that_of_the_configuration_reached_whatever_the_path(make_model, variant, path, width):
    model = make_model(**variant)
    session = AnytimeSession(model, images(), width=width)
    for tokens, depth in monotone(path):
        session.extend(tokens=tokens, depth=depth)
    assert (
        session.cost_flops.tolist()
        == [input_flops(model.config, 16) + trunk_flops(model.config, session.configuration, 16)] * 3
    )
    session.readout()
    cost = flops(model.config, session.configuration, 16, readout="folded", attention="block")
    assert session.cost_flops.tolist() == [cost] * 3


@settings(max_examples=25, deadline=None)
@given(variant=variants, path=steps)
def test_what_is_executed_is_never_more_than_what_is_charged(make_model, variant, path):
    model, x = make_model(**variant).requires_grad_(False), images(1)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        session = AnytimeSession(model, x, width=13)
        for tokens, depth in monotone(path):
            session.extend(tokens=tokens, depth=depth)
    charged = int(session.cost_flops)
    executed = counter.get_total_flops()
    assert executed == charged if variant["mask"] == "block" else executed <= charged


def test_steps_of_a_session_cost_the_increments_of_the_table(make_model):
    model = make_model()
    points = [
        Configuration(1, 13, 1),
        Configuration(2, 13, 1),
        Configuration(2, 13, 3),
        Configuration(8, 13, 3),
    ]
    matrix = increments(model.config, points, 16)
    session = AnytimeSession(model, images(1), width=13)
    costs = []
    for point in points:
        session.extend(tokens=point.tokens, depth=point.depth).readout()
        costs.append(int(session.cost_flops))
    assert [b - a for a, b in pairwise(costs)] == [matrix[i, i + 1] for i in range(3)]


def test_a_restart_at_another_width_costs_its_increment_and_answers_like_the_direct_run(make_model):
    model, x = make_model(), images(2)
    a, b = Configuration(2, 6, 2), Configuration(5, 24, 3)
    session = AnytimeSession(model, x, width=6)
    session.extend(tokens=2, depth=2).readout()
    before = session.cost_flops
    out = session.restart(width=24).extend(tokens=5, depth=3).readout()
    torch.testing.assert_close(out.logits, direct(model, x, session).logits, atol=1e-5, rtol=1e-5)
    step = increments(model.config, [a, b], 16)[0, 1]
    assert (session.cost_flops - before).tolist() == [step] * 2


@settings(max_examples=20, deadline=None)
@given(leaves=st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_batch_mates_and_when_they_leave_change_nothing(make_model, leaves):
    """Sample i leaves after step leaves[i]; its answer is that of the sample alone."""
    model, x = make_model(), images(5)
    path = [(1, 1), (5, 2), (8, 3)]
    session, ids = AnytimeSession(model, x, width=24), torch.arange(5)
    for step, (tokens, depth) in enumerate(path):
        if not len(ids):
            break
        logits = session.extend(tokens=tokens, depth=depth).readout().logits
        for row, i in enumerate(ids.tolist()):
            alone = AnytimeSession(model, x[i : i + 1], width=24)
            for before in path[: step + 1]:
                alone.extend(tokens=before[0], depth=before[1])
            torch.testing.assert_close(logits[row], alone.readout().logits[0], atol=1e-5, rtol=1e-5)
        stays = torch.tensor([leaves[i] > step for i in ids.tolist()], dtype=torch.bool)
        session.keep(stays)
        ids = ids[stays]


def test_split_and_join_are_inverse_and_keep_each_samples_cost(make_model):
    model, x = make_model(), images(4)
    session = AnytimeSession(model, x, width=13).extend(tokens=2, depth=2)
    mask = torch.tensor([True, True, False, False])
    kept, others = session.split(mask)
    kept.readout()
    assert (len(kept), len(others), len(session)) == (2, 2, 4)
    whole = AnytimeSession.join([kept, others])
    paid = readout_flops(model.config, 2, 16)
    base = int(session.cost_flops[0])
    assert whole.cost_flops.tolist() == [base + paid, base + paid, base, base]
    out = whole.extend(tokens=8, depth=3).readout()
    torch.testing.assert_close(out.logits, direct(model, x, whole).logits, atol=1e-5, rtol=1e-5)
    assert session.configuration == Configuration(2, 13, 2), "the session that was split went on by itself"


@pytest.mark.parametrize("task", ["segmentation", "depth", "features", "distillation"])
def test_dense_answers_too_equal_the_direct_run(make_model, task):
    model, x = make_model(task=task, output_feat_dim=6, num_bins=8), images(2, size=24)
    session = AnytimeSession(model, x, width=13)
    out = session.extend(tokens=2, depth=1).extend(depth=3).extend(tokens=8).readout()
    expected = direct(model, x, session)
    for name in ("logits", "features", "maps"):
        if getattr(expected, name) is not None:
            torch.testing.assert_close(getattr(out, name), getattr(expected, name), atol=1e-5, rtol=1e-4)


def test_without_a_mask_depth_continues_and_tokens_do_not(make_model):
    model, x = make_model(mask="none"), images()
    session = AnytimeSession(model, x, width=13).extend(tokens=5, depth=1).extend(depth=3)
    torch.testing.assert_close(
        session.readout().logits, direct(model, x, session).logits, atol=1e-5, rtol=1e-5
    )
    with pytest.raises(UsageError, match="earlier tokens see later ones"):
        session.extend(tokens=8)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tokens": 1}, "the session is at"),
        ({"depth": 1}, "the session is at"),
        ({"tokens": 4}, "tokens 4: not allowed"),
        ({"tokens": 16}, "tokens 16: not allowed"),
        ({"depth": 9}, "depth 9"),
    ],
)
def test_what_cannot_be_continued_is_refused_and_changes_nothing(make_model, asked, message):
    model, x = make_model(), images()
    session = AnytimeSession(model, x, width=13).extend(tokens=2, depth=2)
    with pytest.raises(UsageError, match=message):
        session.extend(**asked)
    assert session.configuration == Configuration(2, 13, 2)


def test_a_session_that_has_run_nothing_has_no_answer(make_model):
    session = AnytimeSession(make_model(), images(), width=13)
    for call in (session.readout, lambda: session.extend(tokens=2), lambda: session.extend(depth=2)):
        with pytest.raises(UsageError):
            call()


def test_wrong_masks_widths_and_joins_are_refused(make_model):
    model = make_model()
    session = AnytimeSession(model, images(), width=13).extend(tokens=2, depth=1)
    other = AnytimeSession(model, images(), width=13).extend(tokens=2, depth=2)
    for call in (
        lambda: session.keep(torch.tensor([1, 0, 1])),
        lambda: session.keep(torch.tensor([True])),
        lambda: AnytimeSession.join([session, other]),
        lambda: AnytimeSession.join([]),
        lambda: AnytimeSession(model, images(), width=99),
        lambda: session.restart(width=0),
    ):
        with pytest.raises(UsageError):
            call()


TASKS = ["classification", "segmentation", "depth", "features", "distillation"]


@settings(max_examples=20, deadline=None)
@given(task=st.sampled_from(TASKS), path=steps, caches=st.booleans())
def test_it_holds_what_is_said(make_model, task, path, caches):
    model = make_model(task=task, output_feat_dim=6, num_bins=8)
    path = list(monotone(path))
    path = path if caches else [(path[0][0], depth) for _, depth in path]
    session = AnytimeSession(model, images(), width=13, caches=caches)
    for tokens, depth in path:
        session.extend(tokens=tokens, depth=depth).readout()
    assert session.nbytes == 3 * session_bytes(model.config, session.configuration, 16, caches=caches)


BIG = {
    "embed_dim": 64,
    "widths": (32, 64),
    "depth": 6,
    "max_latent_tokens": 64,
    "token_granularities": (8, 16, 32, 48, 64),
}
PATHS = {
    "tokens": [(8, 6), (16, 6), (32, 6), (48, 6), (64, 6)],
    "depth": [(64, depth) for depth in range(1, 7)],
    "mixed": [(8, 1), (16, 2), (32, 3), (48, 5), (64, 6)],
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_peak_memory_is_that_of_the_direct_run_and_the_caches(make_model, path):
    model, x = make_model(**BIG), images(8, size=32)
    full = model.full_configuration

    @torch.no_grad()
    def straight():
        model(x, full)

    def stepwise():
        session = AnytimeSession(model, x, width=full.width)
        for tokens, depth in path:
            session.extend(tokens=tokens, depth=depth)
        session.readout()

    caches = 8 * session_bytes(model.config, full, 32)
    stepwise()  # the fold of the readout is made once a model
    measured = peak_bytes(stepwise, model.device)
    assert measured <= 1.5 * peak_bytes(straight, model.device) + caches
    assert measured >= caches, "the caches were not counted"
    weights = memory_bytes(model.config, full, 32, batch=0)
    computed = memory_bytes(model.config, full, 32, batch=8) - weights
    assert measured <= 1.5 * computed + caches


@settings(max_examples=30, deadline=None)
@given(task=st.sampled_from(TASKS[1:]), queries=st.lists(st.integers(0, 8), min_size=1, max_size=9))
def test_some_queries_are_answered_as_all_are_and_cost_less(make_model, task, queries):
    model, x = make_model(task=task, output_feat_dim=6, num_bins=8).requires_grad_(False), images(1, size=24)
    session = AnytimeSession(model, x, width=13).extend(tokens=5, depth=2)
    with torch.no_grad():
        everything = session.readout()
    before = int(session.cost_flops)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        some = session.readout(queries=queries)
    assert some.maps is None
    torch.testing.assert_close(some.features, everything.features[:, queries], atol=1e-5, rtol=1e-5)
    assert int(session.cost_flops) - before == counter.get_total_flops()
    if len(queries) < 9:
        assert counter.get_total_flops() < readout_flops(model.config, 5, 24)


@pytest.mark.parametrize("task", TASKS)
def test_a_dense_readout_executes_what_it_charges(make_model, task):
    model = make_model(task=task, output_feat_dim=6, num_bins=8).requires_grad_(False)
    session = AnytimeSession(model, images(1, size=24), width=13).extend(tokens=5, depth=2)
    session.readout()
    before = int(session.cost_flops)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        session.readout()
    assert int(session.cost_flops) - before == counter.get_total_flops()


@pytest.mark.parametrize("queries", [[], [9], [-1]])
def test_queries_that_are_no_patches_are_refused(make_model, queries):
    dense = AnytimeSession(make_model(task="features", output_feat_dim=6), images(1, size=24), width=13)
    with pytest.raises(UsageError, match="numbers of patches, 0 to 8"):
        dense.extend(tokens=5, depth=1).readout(queries=queries)


def test_a_classifier_is_asked_about_the_image(make_model):
    session = AnytimeSession(make_model(), images(1), width=13).extend(tokens=5, depth=1)
    with pytest.raises(UsageError, match="not about its patches"):
        session.readout(queries=[0])


def test_without_caches_it_goes_deeper_and_nowhere_else(make_model):
    model, x = make_model(), images()
    session = AnytimeSession(model, x, width=13, caches=False).extend(tokens=5, depth=1)
    for refused in (lambda: session.extend(tokens=8), lambda: session.restart(width=24)):
        with pytest.raises(UsageError, match="session without caches"):
            refused()
    out = session.extend(depth=3).readout()
    torch.testing.assert_close(out.logits, direct(model, x, session).logits, atol=1e-5, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(path=steps, tokens=st.sampled_from(TOKENS), depth=st.integers(1, 3))
def test_a_restart_may_be_for_fewer_tokens(make_model, path, tokens, depth):
    model, x = make_model(), images(2)
    session = AnytimeSession(model, x, width=6)
    for t, d in monotone(path):
        session.extend(tokens=t, depth=d)
    session.readout()
    before, left = session.cost_flops, session.configuration
    session.restart(width=24, tokens=tokens)
    if session.tokens < tokens:
        session.extend(tokens=tokens, depth=depth)
    out = session.extend(depth=depth).readout()
    assert session.configuration == Configuration(tokens, 24, depth)
    torch.testing.assert_close(out.logits, direct(model, x, session).logits, atol=1e-5, rtol=1e-5)
    step = increments(model.config, [left, session.configuration], 16)[0, 1]
    assert (session.cost_flops - before).tolist() == [step] * 2


def test_a_width_per_block(make_model):
    model, x = make_model(), images()
    session = AnytimeSession(model, x, width=(24, 13, 6)).extend(tokens=2, depth=1).extend(tokens=5, depth=3)
    assert session.configuration == Configuration(5, (24, 13, 6), 3)
    torch.testing.assert_close(
        session.readout().logits, direct(model, x, session).logits, atol=1e-5, rtol=1e-5
    )


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(0, 2), min_size=1, max_size=4), more=st.lists(st.integers(0, 2), max_size=4))
def test_gathered_samples_are_those_chosen_in_order(make_model, rows, more):
    model = make_model()
    one = AnytimeSession(model, images(seed=1), width=13).extend(tokens=2, depth=2)
    two = AnytimeSession(model, images(seed=2), width=13).extend(tokens=2, depth=2)
    parts = [(one, torch.tensor(rows)), (two, None), (one, torch.tensor(more, dtype=torch.int64))]
    gathered = AnytimeSession.gather(parts).extend(tokens=8, depth=3).readout().logits
    a, b = (s.extend(tokens=8, depth=3).readout().logits for s in (one, two))
    torch.testing.assert_close(gathered, torch.cat((a[rows], b, a[more])), atol=1e-5, rtol=1e-5)


def test_a_step_that_fails_in_the_middle_changes_nothing(make_model, monkeypatch):
    model, x = make_model(), images()
    session = AnytimeSession(model, x, width=13).extend(tokens=2, depth=3)
    last = model.blocks[2]

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(last, "extend", fail)
    with pytest.raises(MemoryError):
        session.extend(tokens=5)
    monkeypatch.undo()
    out = session.extend(tokens=8).readout()
    torch.testing.assert_close(out.logits, direct(model, x, session).logits, atol=1e-5, rtol=1e-5)


def test_training_goes_on_between_two_readouts(make_model):
    """The fold follows the weights."""
    model, x = make_model(seed=5), images()
    session = AnytimeSession(model, x, width=13).extend(tokens=2, depth=1)
    before = session.readout().logits
    with torch.no_grad():
        model.write_head.cattn.v.weight.mul_(2)
    assert not torch.allclose(before, session.readout().logits)
    torch.testing.assert_close(
        session.readout().logits, direct(model, x, session).logits, atol=1e-5, rtol=1e-5
    )
    with torch.no_grad():
        model.write_head.cattn.v.weight.div_(2)


@pytest.mark.parametrize("task", ["classification", "distillation", "segmentation"])
def test_a_session_of_no_samples_runs_like_any_other(make_model, task):
    """What `split` leaves when all samples go the same way."""
    model = make_model(task=task, output_feat_dim=6)
    session = AnytimeSession(model, images(), width=13).extend(tokens=2, depth=1)
    _, nobody = session.split(torch.ones(3, dtype=torch.bool))
    found = nobody.extend(tokens=5, depth=2).readout()
    expected = session.extend(tokens=5, depth=2).readout()
    for name in ("logits", "features", "maps"):
        wanted = getattr(expected, name)
        assert (getattr(found, name) is None) == (wanted is None)
        assert wanted is None or getattr(found, name).shape == (0, *wanted.shape[1:])


@pytest.mark.parametrize("rows", [None, torch.tensor([2, 0, 0])])
@pytest.mark.parametrize("first", [False, True])
def test_sessions_of_different_precision_are_joined_in_the_wider(make_model, rows, first):
    """Caches made under autocast are bfloat16: those beside them keep their digits, whoever comes first."""
    model, x = make_model(), images()

    def session(narrow):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
            return AnytimeSession(model, x, width=13).extend(tokens=2, depth=2)

    parts = [(session(first), rows), (session(not first), rows)]
    joined = AnytimeSession.gather(parts).extend(tokens=5, depth=3)
    exact = joined.readout().logits.chunk(2)[int(first)]
    wanted = direct(model, x, joined).logits
    torch.testing.assert_close(exact, wanted if rows is None else wanted[rows], atol=1e-5, rtol=1e-5)
