"""The stopwatch, on a clock of its own."""

import gc

import numpy as np
import pytest

from adapcli.measure.latency import WARM_UP_CALLS, Stopwatch, Timing


class Machine:
    """A clock that only calls advance. slow(now): how many times slower the machine is by then."""

    def __init__(self, slow=lambda now: 1.0):
        self.now, self.log, self.slow = 0.0, [], slow

    def clock(self):
        return self.now

    def call(self, name, seconds):
        def run():
            self.log.append(name)
            self.now += seconds * self.slow(self.now)

        return run

    def watch(self, rounds=5, min_time_s=0.0, **changed):
        return Stopwatch(rounds, min_time_s, clock=self.clock, **changed)


def test_every_round_measures_everything_once():
    machine = Machine()
    names = list("abcdef")
    machine.watch(rounds=4).measure({name: machine.call(name, 0.1) for name in names})
    rounds = np.array(machine.log[WARM_UP_CALLS * len(names) :]).reshape(4, len(names))
    assert all(sorted(row) == names for row in rounds)
    assert len({tuple(row) for row in rounds}) > 1


def test_a_machine_that_slows_down_slows_all_alike():
    machine = Machine(slow=lambda now: 1 + now / 10)
    found = machine.watch(rounds=99).measure({name: machine.call(name, 0.1) for name in "ab"})
    assert found["a"].median_ms == pytest.approx(found["b"].median_ms, rel=0.02)
    assert found["a"].q75_ms > 2 * found["a"].q25_ms
    apart = Machine(slow=lambda now: 1 + now / 10)
    one, other = (apart.watch(rounds=99).measure({n: apart.call(n, 0.1)})[n].median_ms for n in "ab")
    assert other > 2 * one  # what measuring one after the other would have told


def test_medians_and_quartiles_are_per_call():
    found = Timing.of([0.001, 0.002, 0.003, 0.004, 0.1], calls=7)
    assert (found.q25_ms, found.median_ms, found.q75_ms) == pytest.approx((2, 3, 4))
    assert (found.rounds, found.calls) == (5, 7)


def test_short_calls_are_repeated_to_the_least_time():
    machine = Machine()
    found = machine.watch(min_time_s=0.01).measure(
        {"short": machine.call("s", 0.003), "long": machine.call("l", 1.0)}
    )
    assert found["short"].calls == 4
    assert found["short"].median_ms == pytest.approx(3)
    assert found["long"].calls == 1


def test_the_first_calls_are_not_counted():
    machine = Machine(slow=lambda now: 100 if now == 0 else 1)
    found = machine.watch().measure({"a": machine.call("a", 0.001)})
    assert found["a"].q75_ms == pytest.approx(1)


def test_a_slow_call_warms_up_once():
    machine = Machine()
    assert machine.watch().pace(machine.call("a", 30)) == 30
    assert machine.log == ["a"]


@pytest.mark.parametrize("seconds", [0.0001, 0.004, 0.2, 3.0])
def test_the_expected_time_is_the_time_taken(seconds):
    machine = Machine()
    watch = machine.watch(rounds=7, min_time_s=0.01)
    watch.measure({"a": machine.call("a", seconds)})
    assert watch.expected_s(seconds) == pytest.approx(machine.now, rel=0.05)


def test_the_device_is_waited_for_before_and_after():
    machine = Machine()
    watch = machine.watch(rounds=1, synchronise=lambda: machine.log.append("wait"))
    watch.seconds(machine.call("a", 1), 2)
    assert machine.log == ["wait", "a", "a", "wait"]


def test_progress_counts_to_its_end():
    machine, told = Machine(), []
    machine.watch(rounds=3).measure(
        {n: machine.call(n, 0.1) for n in "ab"}, progress=lambda *at: told.append(at)
    )
    assert told == [(done, 8) for done in range(1, 9)]


def test_the_garbage_collector_works_again_afterwards():
    def fails():
        assert not gc.isenabled()
        raise KeyError

    with pytest.raises(KeyError):
        Stopwatch(1).seconds(fails, 1)
    assert gc.isenabled()
