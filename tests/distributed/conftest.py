"""Several processes of this very interpreter, forked: they have torch already, so they start at once."""

import multiprocessing
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed import FileStore, PrefixStore

from adapcli.distributed.group import Group
from adapcli.distributed.launch import Launch


def run_together(count: int, folder: Path, function, *arguments) -> list:
    """`function(group, *arguments)` in `count` processes that meet in a file; what each returned."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    answers = [context.SimpleQueue() for _ in range(count)]
    started = [
        context.Process(target=_one, args=(rank, count, folder, answers[rank], function, arguments))
        for rank in range(count)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    found = [None if queue.empty() else queue.get() for queue in answers]
    for answer in found:
        if isinstance(answer, str) and answer.startswith("Traceback"):
            raise AssertionError(answer)
    return found


def _one(rank, count, folder, answers, function, arguments):
    torch.set_num_threads(1)
    try:
        store = FileStore(str(folder / "meeting"), count)
        dist.init_process_group(
            "gloo",
            store=PrefixStore("torch", store),
            rank=rank,
            world_size=count,
            timeout=timedelta(seconds=60),
        )
        launch = Launch(rank=rank, size=count, local_rank=rank, local_size=count)
        group = Group(launch, PrefixStore("adap", store))
        group.introduce()
        answers.put(function(group, *arguments))
    except BaseException:
        answers.put(traceback.format_exc())


@pytest.fixture(scope="session")
def together():
    return run_together
