"""A sweep by several processes: the table of one, bit for bit, whoever is killed on the way."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from adapcli.errors import UsageError
from adapcli.sweep import sweep as sweeping
from adapcli.sweep.sweep import Sweep
from policies.table.writer import partial_folder


@pytest.fixture
def job(make_model, make_samples, monkeypatch):
    monkeypatch.setattr(sweeping, "LARGEST_CHUNK", 4)
    model = make_model()
    return Sweep(model, make_samples(), model.config.space.restrict(depths=(1, 3)), batch=3)


def same_files(first: Path, second: Path) -> bool:
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    there = sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    return names == there and all((first / n).read_bytes() == (second / n).read_bytes() for n in names)


def swept(group, job, folder, resume=False):
    told, written = [], []
    keep = sweeping.OutcomeTableWriter.write

    def write(self, start, stop, **rows):
        written.append(start)
        keep(self, start, stop, **rows)

    sweeping.OutcomeTableWriter.write = write
    progress = lambda done, total: told.append((done, total))  # noqa: E731
    table = job.run(folder, resume=resume, progress=progress, group=group)
    return table.n_samples, float(np.asarray(table.nll).sum()), written, told


def test_the_table_is_that_of_one_process(together, make_samples, job, tmp_path):
    one = job.run(tmp_path / "one")
    found = together(2, tmp_path / "meet", swept, job, tmp_path / "two")
    assert same_files(tmp_path / "one", tmp_path / "two")
    assert [answer[:2] for answer in found] == [(43, float(np.asarray(one.nll).sum()))] * 2
    chunks = [start for answer in found for start in answer[2]]
    assert sorted(chunks) == list(range(0, 43, 4)), "every chunk by exactly one"
    done = sorted(told for answer in found for told in answer[3])
    assert done[-1] == (43, 43)


def killed_at_its_second_chunk(group, job, folder):
    keep, written = sweeping.OutcomeTableWriter.write, []

    def write(self, start, stop, **rows):
        if group.rank == 1 and written:
            os.kill(os.getpid(), signal.SIGKILL)
        written.append(start)
        keep(self, start, stop, **rows)

    sweeping.OutcomeTableWriter.write = write
    with pytest.raises(Exception, match="process 1 of 2 ended: was killed"):
        job.run(folder, group=group)
    return "told"


@pytest.mark.parametrize("count", [1, 3])
def test_one_killed_others_resume_to_the_same_table(together, job, tmp_path, count):
    job.run(tmp_path / "one")
    folder = tmp_path / "two"
    assert together(2, tmp_path / "meet", killed_at_its_second_chunk, job, folder)[0] == "told"
    assert partial_folder(folder).is_dir()
    assert not folder.exists()
    if count == 1:
        job.run(folder, resume=True)
    else:
        together(count, tmp_path / "again", swept, job, folder, True)
    assert same_files(tmp_path / "one", folder)


def test_a_finished_table_is_what_all_get(together, job, tmp_path):
    job.run(tmp_path / "one")
    found = together(2, tmp_path / "meet", swept, job, tmp_path / "one", True)
    assert [answer[2] for answer in found] == [[], []]


def test_another_batch_size_in_one_process_is_refused(together, make_model, make_samples, tmp_path):
    def run(group):
        model = make_model()
        with pytest.raises(UsageError, match="sweep: not the same in process 1 as in process 0"):
            Sweep(model, make_samples(), model.config.space, batch=3 + group.rank).run(
                tmp_path / "t", group=group
            )
        return "refused"

    assert together(2, tmp_path / "meet", run) == ["refused"] * 2
    assert not (tmp_path / "t.partial").exists()
