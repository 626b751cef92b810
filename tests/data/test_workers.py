"""Reading ahead: the same results in the same order, however many processes there are."""

import itertools
import multiprocessing
import os
import resource
import signal
import tempfile
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


def test_a_process_that_is_killed_while_this_one_works_ends_it_in_one_line():
    """torch notices in a signal handler, wherever this process is."""
    results = ahead(process, itertools.count(), 1)
    number, _ = next(results)

    def work():
        os.kill(number, signal.SIGKILL)
        time.sleep(10)

    with pytest.raises(AdapError, match="a process that reads data has ended"):
        work()
    results.close()


class Unsendable:
    def __reduce__(self):
        raise OSError("AF_UNIX path too long")


def test_a_result_that_cannot_be_sent_is_an_error_and_no_wait():
    with pytest.raises(AdapError, match="could not pass on the data it read: AF_UNIX path too long"):
        list(ahead(lambda key: Unsendable(), range(3), 1))


def broken(key: int) -> int:
    raise KeyError("a defect")


def test_a_defect_in_a_process_is_raised_as_it_is_and_says_where():
    with pytest.raises(KeyError, match="a defect") as caught:
        list(ahead(broken, range(3), 1))
    assert "in broken" in caught.value.__notes__[0]


def test_a_long_tmpdir_leaves_room_for_sockets(tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.delitem(multiprocessing.current_process()._config, "tempdir", raising=False)
    found = list(ahead(drawn, range(4), 1))
    assert torch.equal(torch.stack(found), torch.stack([drawn(key) for key in range(4)]))
    assert tempfile.gettempdir() == str(folder)


def test_a_long_tmpdir_with_no_other_place_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    monkeypatch.delitem(multiprocessing.current_process()._config, "tempdir", raising=False)

    def full(**_):
        raise OSError("no space")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(AdapError, match="TMPDIR is too long for the sockets of worker processes"):
        next(ahead(drawn, range(4), 1))


@pytest.fixture
def open_files():
    """Sets how many more files this process may open than it has."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit(more):
        free = [os.open(os.devnull, os.O_RDONLY) for _ in range(more)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, before[1]))
        for descriptor in free:
            os.close(descriptor)

    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_too_few_open_files_are_noticed_before_any_process_starts(open_files):
    open_files(20)
    with pytest.raises(AdapError, match="--workers 4 needs 48 open files: Too many open files") as caught:
        next(ahead(drawn, range(9), 4))
    assert "ulimit -n" in caught.value.hint


def test_results_that_are_dropped_hold_no_open_file(open_files):
    assert list(ahead(drawn, range(2), 1))
    open_files(40)
    assert sum(1 for _ in ahead(drawn, range(99), 1)) == 99


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
