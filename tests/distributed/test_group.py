"""What processes tell one another; and one that is alone."""

import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapcli.distributed.group import ALONE, Group
from adapcli.distributed.launch import ElsewhereError, Launch, LostError
from adapcli.errors import FileError, UnavailableError, UsageError


def test_alone_everything_is_returned_as_it_is():
    numbers = torch.randn(3)
    assert ALONE.sum(numbers) is numbers
    assert ALONE.whole(numbers, 3) is numbers
    assert ALONE.largest(7) == 7
    assert ALONE.merged({"a": "b"}) == {"a": "b"}
    assert list(ALONE.pieces(3)) == [0, 1, 2]
    ALONE.agree(1, "it")


@given(size=st.integers(1, 9), total=st.integers(1, 40))
def test_every_sample_is_in_exactly_one_part(size, total):
    groups = [Group(Launch(rank=rank, size=size)) for rank in range(size)]
    if total < size:
        with pytest.raises(UsageError, match=f"batch {total}: {size} processes"):
            groups[0].rows(total)
        return
    parts = [list(group.rows(total)) for group in groups]
    assert [row for part in parts for row in part] == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def exchange(group: Group):
    mine = group.rows(5)
    whole = group.whole(torch.arange(10.0).view(5, 2)[mine.start : mine.stop], 5)
    pieces = list(group.pieces(7))
    group.barrier()
    return {
        "sum": group.sum(torch.tensor([1.0, group.rank])).tolist(),
        "largest": group.largest(3 * group.rank),
        "whole": whole.tolist(),
        "merged": [group.merged({str(group.rank): "x"}), group.merged({"both": "y"})],
        "pieces": pieces,
        "again": list(group.pieces(2)),
    }


def test_what_several_tell_one_another(together, tmp_path: Path):
    first, second, third = together(3, tmp_path, exchange)
    for found in (first, second, third):
        assert found["sum"] == [3.0, 3.0]
        assert found["largest"] == 6
        assert found["whole"] == torch.arange(10.0).view(5, 2).tolist()
        assert found["merged"] == [{"0": "x", "1": "x", "2": "x"}, {"both": "y"}]
    for name, count in (("pieces", 7), ("again", 2)):
        assert sorted(first[name] + second[name] + third[name]) == list(range(count))


def disagree(group: Group):
    with pytest.raises(UsageError, match="recipe: not the same in process 1 as in process 0"):
        group.agree(["a", group.rank], "recipe")
    group.agree(["a", 1], "recipe")
    return "all of them"


def test_processes_with_different_arguments_all_refuse(together, tmp_path: Path):
    assert together(2, tmp_path, disagree) == ["all of them"] * 2


def end(group: Group, how: str):
    if group.rank == 1 and how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if group.rank == 1:
        group.fail("the disk is full")
        os._exit(1)
    with pytest.raises(LostError) as caught:
        group.barrier()
    return caught.value.message


@pytest.mark.parametrize(("how", "why"), [("killed", "was killed"), ("failed", "the disk is full")])
def test_the_end_of_another_process_is_told_with_its_reason(together, tmp_path: Path, how, why):
    assert together(2, tmp_path, end, how)[0] == f"process 1 of 2 ended: {why}"


def tell(group: Group):
    return [group.told("the same"), group.told(f"of {group.rank}")]


def test_an_error_that_all_meet_is_told_by_one_the_first_if_it_does(together, tmp_path: Path):
    assert together(2, tmp_path, tell) == [[False, False], [True, False]]


def test_an_error_of_another_process_says_whose_it_is(together, tmp_path: Path):
    def fail(group: Group):
        from adapcli.distributed.joined import as_told

        error = as_told(group, FileError(f"no file {group.rank}", "look"))
        return type(error).__name__, error.message, error.hint, error.exit_code

    first, second = together(2, tmp_path, fail)
    assert first == ("FileError", "no file 0", "look", 3)
    assert second == (ElsewhereError.__name__, "process 1 of 2: no file 1", "look", 3)


def test_one_gpu_for_several_processes_is_refused(monkeypatch):
    several = Group(Launch(rank=1, size=2, local_rank=1, local_size=2))
    assert ALONE.device("cuda:3") == "cuda:3"
    assert several.device("cpu") == "cpu"
    with pytest.raises(UsageError, match="2 processes need a GPU each"):
        several.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert several.device("auto") == "cpu"
    with pytest.raises(UnavailableError, match="2 processes, but 1 CUDA devices"):
        several.device("cuda")
