import json
import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from adapcli.errors import AdapError, FileError, InfeasibleError, UsageError
from adapcli.search import SAMPLERS, SearchResult, Target, exhaustive, sampled
from adapcli.search import study as study_module
from adapcli.search.axes import Axes
from adapcli.search.study import JournalLock, open_study

TARGET = Target(fraction=0.5)
digits = st.text("0123456789", min_size=1, max_size=2).map(str.encode)


@pytest.fixture(scope="module")
def table(make_table):
    return make_table(200)


def affordable(table):
    return set(np.flatnonzero(table.cost_flops <= 0.5 * table.cost_flops[table.full]))


def load(path):
    storage = JournalStorage(JournalFileBackend(str(path)))
    (summary,) = storage.get_all_studies()
    return optuna.load_study(study_name=summary.study_name, storage=storage)


def told(table, path):
    """(row, values) of every finished trial in a journal."""
    axes = Axes.of(table.configs)
    return [(axes.row(trial.params), trial.values) for trial in load(path).trials if trial.values]


@pytest.mark.parametrize("sampler", SAMPLERS)
class TestSampler:
    """What every sampler must keep."""

    def test_evaluates_as_many_configurations_as_asked(self, table, sampler):
        result = sampled(table, sampler=sampler, trials=7)
        assert (result.study.evaluated, result.study.new) == (7, 7)
        assert result.study.sampler == sampler

    def test_the_whole_grid_has_no_regret(self, table, sampler):
        found, best = sampled(table, TARGET, sampler=sampler, trials=10**6), exhaustive(table, TARGET)
        assert found.study.evaluated == len(affordable(table))
        assert found.choice == best.choice
        assert found.study.hypervolume_regret == 0
        assert found.study.score_regret == 0
        assert found.study.cost_regret == 0

    def test_never_evaluates_over_the_budget(self, table, sampler, tmp_path):
        sampled(table, TARGET, sampler=sampler, trials=6, study=tmp_path / "s.log")
        cheap = affordable(table)
        score = exhaustive(table, TARGET)
        assert score.choice.index in cheap
        means = table.score[table.rows("calibration")].mean(axis=0)
        for row, values in told(table, tmp_path / "s.log"):
            assert values[0] == pytest.approx(means[row] if row in cheap else 0.0)
            assert values[1] == table.cost_flops[row] / table.cost_flops[table.full]

    def test_resumes_where_it_stopped(self, table, sampler, tmp_path):
        path = tmp_path / "s.log"
        first = sampled(table, TARGET, sampler=sampler, trials=4, study=path)
        second = sampled(table, TARGET, sampler=sampler, trials=7, study=path)
        third = sampled(table, TARGET, sampler=sampler, trials=7, study=path)
        assert [r.study.new for r in (first, second, third)] == [4, 3, 0]
        assert [r.study.evaluated for r in (first, second, third)] == [4, 7, 7]
        assert third.choice == second.choice
        assert third.front == second.front
        assert second.study.hypervolume_regret <= first.study.hypervolume_regret
        assert len(told(table, path)) == 7 + second.study.repeats + second.study.over_budget

    def test_same_seed_same_result(self, table, sampler):
        first, second = (sampled(table, TARGET, sampler=sampler, trials=5, seed=3) for _ in range(2))
        assert first == second

    def test_a_torn_journal_resumes_with_a_warning(self, table, sampler, tmp_path):
        path = tmp_path / "s.log"
        sampled(table, sampler=sampler, trials=4, study=path)
        path.write_bytes(path.read_bytes()[:-5])
        warnings = []
        result = sampled(table, sampler=sampler, trials=6, study=path, warn=warnings.append)
        assert result.study.evaluated == 6
        assert len(warnings) == 1
        assert "the last line was torn" in warnings[0]


def test_regrets_are_those_of_the_exhaustive_search(table):
    best = exhaustive(table, Target(fraction=1.0))
    found = sampled(table, Target(fraction=1.0), sampler="random", trials=5)
    study = found.study
    assert study.exhaustive_hypervolume == best.hypervolume
    assert study.hypervolume_regret == pytest.approx(1 - found.hypervolume / best.hypervolume)
    assert study.score_regret == pytest.approx(best.choice.calibration_score - found.choice.calibration_score)
    assert study.cost_regret == pytest.approx(found.choice.cost_fraction - best.choice.cost_fraction)
    assert study.hypervolume_regret >= 0
    assert sampled(table, sampler="random", trials=5).study.score_regret is None


def test_killing_a_search_anywhere_loses_nothing_that_was_told(table, tmp_path):
    whole = tmp_path / "whole.log"
    sampled(table, sampler="tpe", trials=5, study=whole)
    content = whole.read_bytes()
    for cut in np.linspace(1, len(content) - 1, 12).astype(int):
        path = tmp_path / f"{cut}.log"
        path.write_bytes(content[:cut])
        before = content[: content[:cut].rfind(b"\n") + 1]
        result = sampled(table, sampler="tpe", trials=6, study=path)
        assert result.study.evaluated == 6
        assert path.read_bytes().startswith(before)


def test_a_result_with_a_study_reads_back(table, tmp_path):
    result = sampled(table, TARGET, trials=5, study=tmp_path / "s.log")
    result.save(tmp_path / "search")
    assert SearchResult.load(tmp_path / "search") == result


def test_progress_counts_evaluations(table):
    calls = []
    sampled(table, sampler="grid", trials=3, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_configurations_that_are_no_grid(make_table):
    """Some combinations of the axes are not in the table: proposed, never evaluated."""
    whole = make_table(100)
    kept = [0, 1, 4, 8, 13, 17]
    table = make_table(
        100, configs=whole.configs.iloc[kept], score=whole.score[:, kept], increment_flops=None,
        prediction=None, nll=None, signals=None, signal_names=None,
    )  # fmt: skip
    for sampler in SAMPLERS:
        result = sampled(table, sampler=sampler, trials=100)
        assert result.study.evaluated == 6
        assert result.study.hypervolume_regret == 0


def test_axes_round_trip(make_table):
    configs = make_table(4).configs
    configs["model"] = np.where(configs.index % 2, "a", "b")
    configs["width"] = configs["width"].map({8: "8-8", 16: "16-8"})
    axes = Axes.of(configs)
    for row in range(len(configs)):
        assert axes.row(axes.parameters(row)) == row
    assert axes.row({"model": "a", "tokens_rank": 0, "width": "8-8", "depth_rank": 0}) is None
    assert set(axes.distributions()) == {"model", "tokens_rank", "width", "depth_rank"}
    assert Axes.of(configs.iloc[:1]).values == {"model": ("b",)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda make: (make(200, seed=1), TARGET), "study was made for table"),
        (lambda make: (make(200, depths=(1, 2)), TARGET), "study was made for space"),
        (lambda make: (make(200), Target(fraction=0.6)), "study was made for target 0.5, not target 0.6"),
        (lambda make: (make(200), Target()), "study was made for target 0.5, not no target"),
    ],
)
def test_a_study_of_something_else_is_refused(table, make_table, tmp_path, changed, message):
    path = tmp_path / "s.log"
    sampled(table, TARGET, trials=3, study=path)
    before = path.read_bytes()
    other, target = changed(make_table)
    with pytest.raises(FileError, match=message):
        sampled(other, target, trials=3, study=path)
    assert path.read_bytes() == before


def test_a_study_for_another_objective_is_refused(table, tmp_path):
    sampled(table, trials=3, study=tmp_path / "s.log")
    with pytest.raises(FileError, match="study was made for objective flops, not objective memory"):
        sampled(table, trials=3, study=tmp_path / "s.log", objective="memory")


def foreign(path, directions, name="theirs", trials=1):
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, study_name=name, directions=directions)
    for _ in range(trials):
        trial = study.ask()
        trial.suggest_float("learning_rate", 0, 1)
        study.tell(trial, [0.5] * len(directions))


def test_a_strangers_study_is_refused_whole(table, tmp_path):
    cases = {
        "one": (["minimize"], "made for other directions: minimize, not maximize, minimize"),
        "swapped": (["minimize", "maximize"], "made for other directions: minimize, maximize"),
        "space": (["maximize", "minimize"], "made for another space: learning_rate"),
    }
    for name, (directions, message) in cases.items():
        path = tmp_path / name
        foreign(path, directions)
        before = path.read_bytes()
        with pytest.raises(FileError, match=message):
            sampled(table, trials=3, study=path)
        assert path.read_bytes() == before
    foreign(tmp_path / "one", ["minimize"], name="another")
    with pytest.raises(FileError, match="holds 2 studies, none made by adap"):
        sampled(table, trials=3, study=tmp_path / "one")


def test_a_study_stopped_right_after_its_creation_is_taken(table, tmp_path):
    foreign(tmp_path / "s.log", ["maximize", "minimize"], name="adap", trials=0)
    assert sampled(table, trials=3, study=tmp_path / "s.log").study.evaluated == 3
    (tmp_path / "empty.log").write_bytes(b"")
    assert sampled(table, trials=3, study=tmp_path / "empty.log").study.evaluated == 3


def test_what_is_no_journal_is_refused_and_left_alone(table, tmp_path):
    sampled(table, trials=3, study=tmp_path / "s.log")
    lines = (tmp_path / "s.log").read_bytes().split(b"\n")
    lines[4] = b'{"op_code": 5, "gar'
    cases = {
        "text": (b"hello\nthere\n", "line 1 is not a record"),
        "one line": (b"hello", "not an Optuna journal"),
        "middle": (b"\n".join(lines), "line 5 is not a record"),
        "sqlite": (b"SQLite format 3\x00", "not an Optuna journal"),
        "json": (json.dumps({"a": 1}).encode() + b"\n", "line 1 is not a record"),
        "nested": (b"[" * 100_000 + b"\n", "line 1 is not a record"),
        "unknown operation": (b'{"op_code": 99, "worker_id": "x"}\n', "not a usable study"),
        "incomplete operation": (b'{"op_code": 0, "worker_id": "x"}\n', "not a usable study"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(FileError, match=message):
            sampled(table, trials=3, study=path)
        assert path.read_bytes() == content
    with pytest.raises(FileError, match="not a study"):
        sampled(table, trials=3, study=tmp_path)


def test_a_study_that_cannot_be_written_is_told(table, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AdapError, match="cannot use"):
        sampled(table, trials=3, study=tmp_path / "file" / "s.log")


def test_arguments_out_of_range(table):
    with pytest.raises(UsageError, match="sampler cmaes") as caught:
        sampled(table, sampler="cmaes")
    assert caught.value.hint == "allowed: tpe, nsga2, random, grid"
    with pytest.raises(UsageError, match="expected a file"):
        sampled(table, study=Path("sqlite:///study.db"))
    with pytest.raises(UsageError, match="trials 0"):
        sampled(table, trials=0)
    with pytest.raises(InfeasibleError, match="the cheapest is"):
        sampled(table, Target(fraction=0.001))


def test_a_score_that_nothing_tried_reaches_asks_for_more_trials(table):
    best = exhaustive(table).front[-1].calibration_score

    def only(seed):
        return sampled(table, sampler="random", trials=1, seed=seed).front[0].calibration_score

    unlucky = next(seed for seed in range(20) if only(seed) < best)
    with pytest.raises(InfeasibleError, match="among the 1 tried") as caught:
        sampled(table, Target(min_score=best), sampler="random", trials=1, seed=unlucky)
    assert "--trials" in caught.value.hint


@pytest.fixture(scope="module")
def journal(table, tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / "s.log"
    sampled(table, sampler="random", trials=3, study=path)
    return path.read_bytes()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6) | digits)
def test_a_changed_journal_is_resumed_or_refused(table, tmp_path, journal, place, replacement):
    path, start = tmp_path / "s.log", int(place * len(journal))
    path.write_bytes(journal[:start] + replacement + journal[start + len(replacement) :])
    with suppress(AdapError):
        assert sampled(table, sampler="random", trials=3, study=path).study.evaluated == 3


def _search_shared(table, path, seed):
    sampled(table, sampler="tpe", trials=14, study=path, seed=seed)


def test_several_processes_share_one_study_and_its_trials(table, tmp_path, monkeypatch):
    """One creates it, the others open it, and all stop when it holds as many configurations as asked."""
    monkeypatch.chdir(tmp_path)
    context = multiprocessing.get_context("fork")
    path = Path("folder/s.log")  # relative: the link of a lock is not
    processes = [context.Process(target=_search_shared, args=(table, path, seed)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    evaluated = {row for row, _ in told(table, path)}
    assert 14 <= len(evaluated) <= 17  # those that run at the end are finished
    assert sampled(table, sampler="tpe", trials=14, study=path).study.new == 0
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["s.log"]


def test_a_record_that_another_process_is_writing_is_waited_for(table, tmp_path):
    """What looks torn is repaired only once nobody else writes."""
    path, warnings = tmp_path / "s.log", []
    sampled(table, sampler="random", trials=3, study=path)
    before = path.read_bytes()
    record = before.splitlines(keepends=True)[-1]
    writer = JournalFileSymlinkLock(str(path))
    writer.acquire()
    path.write_bytes(before + record[:20])

    def finish():
        with path.open("ab") as journal:
            journal.write(record[20:])
        writer.release()

    threading.Timer(0.3, finish).start()
    sampled(table, sampler="random", trials=4, study=path, warn=warnings.append)
    assert path.read_bytes().startswith(before + record)
    assert warnings == []


def test_a_lock_of_a_process_that_was_killed_is_removed(table, tmp_path):
    path = tmp_path / "s.log"
    sampled(table, sampler="random", trials=3, study=path)
    ready, done = os.pipe()
    if (child := os.fork()) == 0:
        JournalLock(path).acquire()
        with path.open("ab") as journal:
            journal.write(b'{"op_code": 4, "tor')
        os.close(done)
        time.sleep(60)
    os.close(done)
    os.read(ready, 1)  # returns when the child has closed its end
    os.close(ready)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "s.log.lock").is_symlink()
    assert sampled(table, sampler="random", trials=4, study=path).study.evaluated == 4
    assert not (tmp_path / "s.log.lock").is_symlink()


@pytest.mark.parametrize("target", ["s.log", "elsewhere/[1] 1 x"])
def test_a_lock_that_stays_ends_in_a_line_that_names_it(table, tmp_path, monkeypatch, target):
    monkeypatch.setattr(study_module, "PATIENCE_S", 0.2)
    (tmp_path / "s.log.lock").symlink_to(target)
    with pytest.raises(AdapError, match=r"s\.log\.lock: another process has locked the study") as caught:
        sampled(table, trials=3, study=tmp_path / "s.log")
    assert "delete this file" in caught.value.hint


def test_a_line_torn_while_the_study_is_open_does_not_swallow_the_next_record(table, tmp_path):
    study = open_study(tmp_path / "s.log", {"a": 1})
    whole = (tmp_path / "s.log").read_bytes()
    (tmp_path / "s.log").write_bytes(whole + b'{"op_code": 4, "tor')
    study.set_user_attr("b", 2)
    assert open_study(tmp_path / "s.log", {"a": 1}).user_attrs == {"made_for": {"a": 1}, "b": 2}


def test_processes_that_search_for_different_things_cannot_share_a_study(tmp_path):
    open_study(tmp_path / "s.log", {"a": 1})
    with pytest.raises(FileError, match="study was made for a 1, not a 2"):
        open_study(tmp_path / "s.log", {"a": 2})
