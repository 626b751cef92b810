"""Reading ahead: the same results in the same order, however many processes there are."""

import os
import signal
import time

import pytest
import torch

from adapcli.data.workers import ReadAhead, ahead
from adapcli.errors import AdapError, FileError


def drawn(key: int) -> torch.Tensor:
    """Slow where it hurts the order: later keys are ready first."""
    time.sleep(0.02 * (key % 3 == 0))
    return torch.rand(5, generator=torch.Generator().manual_seed(key))


def refused(key: int) -> int:
    if key == 3:
        raise FileError("third: damaged", "look at it")
    return key


def killed(key: int) -> int:
    if key == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return key


def process(key: int) -> tuple[int, int]:
    return os.getpid(), torch.get_num_threads()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_keys(workers):
    found = list(ahead(drawn, range(10), workers))
    assert torch.equal(torch.stack(found), torch.stack([drawn(key) for key in range(10)]))


@pytest.mark.slow
def test_processes_may_also_be_spawned():
    found = list(ahead(drawn, range(4), 1, context="spawn"))
    assert torch.equal(torch.stack(found), torch.stack([drawn(key) for key in range(4)]))


def test_they_are_other_processes_with_one_thread_each():
    told = set(ahead(process, range(12), 3))
    assert len(told) == 3
    assert os.getpid() not in {number for number, _ in told}
    assert {threads for _, threads in told} == {1}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_in_its_turn_as_it_is(workers):
    results = ahead(refused, range(9), workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(FileError) as caught:
        next(results)
    assert (caught.value.message, caught.value.hint) == ("third: damaged", "look at it")


def test_a_process_that_is_killed_ends_it_in_one_line():
    results = ahead(killed, range(9), 1)
    with pytest.raises(AdapError, match="a process that reads data has ended: DataLoader worker") as caught:
        list(results)
    assert "\n" not in caught.value.message
    assert "--workers" in caught.value.hint


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_generator_is_left_alone(workers):
    torch.manual_seed(5)
    list(ahead(drawn, range(3), workers))
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))


def test_no_key_is_drawn_long_before_its_turn():
    asked = []

    def keys():
        for key in range(100):
            asked.append(key)
            yield key

    results = ahead(drawn, keys(), 2)
    next(results)
    assert len(asked) <= 2 * 2 + 1
    results.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_any_number_may_be_asked_for_next(workers):
    reader = ReadAhead(drawn, workers)
    for number in (0, 1, 7, 8, 3, 3):
        assert torch.equal(reader.get(number), drawn(number))
    reader.close()
