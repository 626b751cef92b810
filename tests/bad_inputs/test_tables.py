"""Run folders whose tables and other contents are damaged or not there, for every command that reads them."""

import json

import numpy as np
import pandas as pd
import pytest

import adapcli
from policies.table import storage
from policies.table.writer import partial_folder

READERS = [["search"], ["report"], ["train-policy", "--algo", "threshold"]]
readers = pytest.mark.parametrize("words", READERS, ids=lambda words: words[0])


def change_csv(name, change):
    def apply(table):
        frame = pd.read_csv(table / name)
        change(frame).to_csv(table / name, index=False)

    return apply


def put(name, place, value):
    def apply(table):
        array = np.load(table / name)
        array[place] = value
        np.save(table / name, array)

    return apply


def put_objects(table):
    class Payload:
        def __reduce__(self):
            return (open, (str(table.parent / "ran"), "w"))

    np.save(table / "score.npy", np.array([Payload()], dtype=object), allow_pickle=True)


def change_meta(**changed):
    def apply(table):
        meta = json.loads((table / "meta.json").read_text())
        (table / "meta.json").write_text(json.dumps(meta | changed))
        storage.seal(table)

    return apply


DAMAGE = {
    "NaN": (put("score.npy", (7, 3), np.nan), "score, row 7, column 3: nan is not in [0, 1]"),
    "a score of 2": (put("score.npy", (7, 3), 2), "score, row 7, column 3: 2.0 is not in [0, 1]"),
    "infinite signal": (put("signals.npy", (7, 3, 0), np.inf), "signals, row 7, column 3, 0: inf"),
    "a configuration twice": (
        change_csv("configs.csv", lambda frame: frame.assign(tokens=1)),
        "duplicate configuration (model=m tokens=1 width=8 depth=1)",
    ),
    "no column of costs": (
        change_csv("configs.csv", lambda frame: frame.drop(columns="cost_flops")),
        "configs: column cost_flops is missing",
    ),
    "no column of splits": (
        change_csv("samples.csv", lambda frame: frame.drop(columns="split")),
        "samples: column split is missing",
    ),
    "another split": (
        change_csv("samples.csv", lambda frame: frame.assign(split="validation")),
        "samples, row 0: unknown split 'validation'",
    ),
    "negative cost": (
        change_csv("configs.csv", lambda frame: frame.assign(cost_flops=-1)),
        "configs, column cost_flops, row 0: -1.0 is not a cost",
    ),
    "no configurations": (change_csv("configs.csv", lambda frame: frame[:0]), "configs has 0 rows"),
    "no samples": (change_csv("samples.csv", lambda frame: frame[:0]), "samples has 0 rows"),
    "fewer samples": (
        change_csv("samples.csv", lambda frame: frame[:9]),
        "samples has 9 rows, score has 198",
    ),
    "no scores": (lambda table: (table / "score.npy").unlink(), "score.npy: no such file"),
    "no meta": (lambda table: (table / "meta.json").unlink(), "meta.json: no such file"),
    "meta of NaN": (lambda table: (table / "meta.json").write_text('{"a": NaN}'), "NaN is not JSON"),
    "another version": (change_meta(schema_version=99), "schema_version 99, this version reads"),
    "names that are numbers": (change_meta(signal_names=[1, 2]), "signal_names: expected a list of names"),
    "no object of fingerprints": (change_meta(fingerprints=5), "fingerprints: expected an object"),
    "no list of classes": (change_meta(class_names=5), "class_names: expected a list of names"),
    "no full configuration": (change_meta(full_configuration=3), "full_configuration: expected an object"),
    "Python objects": (put_objects, "holds Python objects; nothing was run"),
    "a text": (lambda table: (table / "score.npy").write_text("scores"), "score.npy: not a usable .npy file"),
}


@readers
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_table(adap, run, contents, words, damage):
    apply, told = DAMAGE[damage]
    apply(run / "table")
    before = contents(run)
    adap(*words).refused(3, told)
    assert contents(run) == before


@readers
def test_no_table(adap, tmp_path, words):
    adap(*words).refused(3, "no outcome table in adap-run", "hint: run `adap sweep` first")
    assert list(tmp_path.iterdir()) == []


@readers
def test_a_table_under_way(adap, run, words):
    (run / "table").rename(partial_folder(run / "table"))
    adap(*words).refused(3, "no outcome table", "`adap sweep --resume` finishes it")


@readers
def test_a_run_folder_that_is_a_file(adap, tmp_path, words):
    (tmp_path / "x").touch()
    adap(*words, "--run", "x").refused(2, "x: is a file, not a run folder")


@readers
@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema_version": 99}', '{"a": NaN}'])
def test_a_damaged_record_of_commands(adap, run, contents, words, text):
    (run / "run.json").write_text(text)
    before = contents(run)
    adap(*words).refused(3, "run.json", "move it away")
    assert contents(run) == before


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("search.json", "{}", "search.json"),
        ("search.json", "no json", "not usable JSON"),
        ("search.json", "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_report_of_a_damaged_search(adap, run, name, text, told):
    assert adap("search", "--flops-target", "0.5").code == 0
    (run / "search" / name).write_text(text)
    adap("report").refused(3, told)


@pytest.mark.parametrize(
    "changed",
    [
        {"data": {"name": 5, "seed": "abc"}},
        {"data": {"name": "digits", "limits": [1]}},
        {"data": {"name": "digits", "limits": {"test": "x"}}},
        {"data": {"name": "folder:/nowhere"}},
        {"data": {"name": "digits", "seed": 1, "limits": {"test": 90}}},
        {"preprocessing": {"mean": 5}},
        {"data": [], "model": 7, "conventions": [], "device": [], "versions": 7, "task": 9},
    ],
)
def test_a_report_of_a_table_that_does_not_say_where_it_is_from(adap, run, monkeypatch, changed):
    """Everything but the example pictures is there. (Figures, which take seconds, are left out here.)"""
    monkeypatch.setattr("adapcli.report.build._write_figure", lambda drawing, folder: "")
    change_meta(**changed)(run / "table")
    ended = adap("report")
    assert (ended.code, "Traceback" in ended.err, "defect" in ended.err) == (0, False, False), ended
    assert (run / "report" / "index.html").exists()


@pytest.fixture
def torn(adap, tmp_path, checkpoint, monkeypatch):
    """A sweep that was interrupted after six chunks of 16 rows: its folder, and how to go on."""
    from adapcli.sweep import sweep
    from adapcli.sweep import tasks as module

    monkeypatch.setattr(sweep, "LARGEST_CHUNK", 16)
    whole, words = module.score_batch, ("sweep", "--ckpt", checkpoint, "--limit", 200, "--quiet")
    calls = []

    def interrupted(*arguments, **named):
        calls.append(1)
        if len(calls) > 8:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, "score_batch", interrupted)
        assert adap(*words).code == 130
    return partial_folder(tmp_path / "adap-run" / "table"), words


def chunks(folder):
    return sorted((folder / "ledger").glob("0*.json"))


def test_a_torn_last_chunk_is_redone_with_a_warning(adap, torn):
    folder, words = torn
    last = chunks(folder)[-1]
    last.write_bytes(last.read_bytes()[:-5])
    ended = adap(*words, "--resume")
    assert ended.code == 0
    assert ended.err.startswith(f"warning: rows {int(last.stem)}..")
    assert "were torn" in ended.err


def test_garbage_in_the_middle_is_refused_with_its_place(adap, torn, contents):
    folder, words = torn
    with (folder / "score.npy").open("r+b") as file:
        file.seek(-(198 - 20) * 12 * 4, 2)
        file.write(b"garbage")
    before = contents(folder)
    adap(*words, "--resume").refused(3, "rows 16..32: score is damaged", "begin again with --overwrite")
    assert contents(folder) == before


@pytest.mark.parametrize("more", [["--limit", "100"], ["--seed", "1"], ["--tokens", "1"]])
@pytest.mark.parametrize("finished", [False, True])
def test_a_sweep_of_something_else_is_not_resumed(adap, torn, contents, more, finished):
    folder, words = torn
    if finished:
        assert adap(*words, "--resume").code == 0
    before = contents(folder.parent)
    line = adap(*words, *more, "--resume").refused(3, "begin again with --overwrite")
    assert " there, " in line
    assert contents(folder.parent) == before


def test_a_sweep_of_another_checkpoint_is_not_resumed(adap, torn, make_model, tmp_path):
    _, words = torn
    adapcli.save(make_model(seed=1), tmp_path / "other.pt")
    line = adap(*words, "--ckpt", "other.pt", "--resume").refused(3)
    assert "fingerprints.checkpoint: " in line
