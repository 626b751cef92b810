"""Configurations and the grid they form."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapcli.errors import UsageError
from adapcli.space import ConfigSpace, Configuration

AXIS = st.sets(st.integers(1, 300), min_size=1, max_size=5).map(lambda values: tuple(sorted(values)))
SPACES = st.builds(ConfigSpace, AXIS, AXIS, AXIS)
SPACE = ConfigSpace(tokens=(2, 4, 8), widths=(12, 24), depths=(1, 2, 3, 4))


@given(SPACES)
def test_the_grid_is_every_combination_in_order(space):
    by_hand = [Configuration(*c) for c in itertools.product(space.tokens, space.widths, space.depths)]
    assert list(space) == by_hand == sorted(by_hand)
    assert len(space) == len(by_hand)


@given(SPACES)
def test_index_and_position_are_inverse(space):
    assert [space.index(c) for c in space] == list(range(len(space)))
    assert [space[i] for i in range(len(space))] == list(space)


@given(SPACES)
def test_the_ends_of_the_grid(space):
    assert space.cheapest == space[0] == min(space)
    assert space.full == space[len(space) - 1] == max(space)


@given(SPACES, st.data())
def test_a_restricted_grid_holds_exactly_what_was_asked_for(space, data):
    chosen = {
        axis: data.draw(st.sets(st.sampled_from(getattr(space, axis)), min_size=1)) for axis in vars(space)
    }
    small = space.restrict(**{axis: list(values) for axis, values in chosen.items()})
    assert set(small) == {
        c
        for c in space
        if c.tokens in chosen["tokens"] and c.width in chosen["widths"] and c.depth in chosen["depths"]
    }
    assert space.restrict() == space


@pytest.mark.parametrize("index", [-1, 24, 10**9])
def test_positions_outside_the_grid_do_not_exist(index):
    with pytest.raises(IndexError):
        SPACE[index]


@pytest.mark.parametrize(
    ("configuration", "message", "hint"),
    [
        (Configuration(3, 24, 1), "tokens 3: not allowed", "allowed: 2, 4, 8"),
        (Configuration(0, 24, 1), "tokens 0: not allowed", "allowed: 2, 4, 8"),
        (Configuration(4, 13, 1), "widths 13: not allowed", "allowed: 12, 24"),
        (Configuration(4, 24, 99), "depths 99: not allowed", "allowed: 1..4"),
        (Configuration(4, (12, 24), 2), r"widths \(12, 24\): not allowed", "allowed: 12, 24"),
    ],
)
def test_what_is_not_in_the_grid_is_refused_with_what_is(configuration, message, hint):
    for refuse in (SPACE.validate, SPACE.index):
        with pytest.raises(UsageError, match=message) as caught:
            refuse(configuration)
        assert caught.value.hint == hint
        assert caught.value.exit_code == 2


def test_picking_takes_the_largest_of_what_is_not_said():
    assert SPACE.pick() == SPACE.full
    assert SPACE.pick(width=SPACE.widths[0]) == Configuration(
        SPACE.full.tokens, SPACE.widths[0], SPACE.full.depth
    )
    picked = [SPACE.pick(tokens=c.tokens, width=c.width, depth=c.depth) for c in SPACE]
    assert picked == list(SPACE)
    for asked in ({"tokens": 3}, {"width": 0}, {"depth": 9}):
        with pytest.raises(
            UsageError, match="{} {}: not allowed".format(*next(iter(asked.items())))
        ) as caught:
            SPACE.pick(**asked)
        assert caught.value.hint.startswith("allowed: ")


def test_restricting_to_what_is_not_there_is_refused():
    with pytest.raises(UsageError, match="depths 9: not allowed") as caught:
        SPACE.restrict(tokens=[2], depths=[1, 9])
    assert caught.value.hint == "allowed: 1..4"
    with pytest.raises(UsageError, match="widths: none given"):
        SPACE.restrict(widths=[])


@pytest.mark.parametrize("values", [(), (0, 1), (-2,), (2, 1), (1, 1)])
def test_an_axis_must_ascend_from_one_or_more(values):
    with pytest.raises(UsageError, match="widths: expected distinct positive values"):
        ConfigSpace(tokens=(1,), widths=values, depths=(1,))


def test_configurations_are_values():
    a, b = Configuration(4, 24, 2), Configuration(tokens=4, width=24, depth=2)
    assert a == b
    assert len({a, b}) == 1
    with pytest.raises(AttributeError):
        a.depth = 3
    assert str(a) == "t4 w24 l2"
    assert str(Configuration(4, (12, 24), 2)) == "t4 w12-24 l2"
    assert a.widths() == (24, 24)
    assert Configuration(4, (12, 24), 2).widths() == (12, 24)
