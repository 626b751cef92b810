"""The run folder: found again, never overwritten silently, and honest about its past."""

import json
import os
import sys

import pytest

from adapcli.errors import AdapError, FileError, UsageError
from adapcli.run import PIECES, Run, acting_as, unfinished


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.delenv("ADAP_RUN", raising=False)
    monkeypatch.chdir(tmp_path)
    return Run.open()


def fill(folder):
    folder.mkdir(parents=True)
    (folder / "content.json").write_text("{}")


def test_the_folder_is_the_argument_then_the_variable_then_the_default(run, monkeypatch):
    assert str(run.folder) == "adap-run"
    monkeypatch.setenv("ADAP_RUN", "there")
    assert str(Run.open().folder) == "there"
    assert str(Run.open("here").folder) == "here"
    monkeypatch.setenv("ADAP_RUN", "")
    assert str(Run.open().folder) == "adap-run"


def test_opening_and_asking_create_nothing(run):
    assert run.policy_names() == []
    assert run.provenance() == {}
    assert not run.folder.exists()


def test_a_file_is_not_a_run_folder(run, tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(UsageError, match="x: is a file, not a run folder"):
        Run.open("x")


@pytest.mark.parametrize("piece", PIECES)
def test_a_missing_piece_names_the_command_that_makes_it(run, piece):
    name, command = PIECES[piece]
    with pytest.raises(FileError, match=f"no {name} in adap-run") as caught:
        run.require(piece)
    assert caught.value.hint == f"run `adap {command}` first"


def test_the_command_names_the_folder_where_it_has_to(run, monkeypatch):
    with pytest.raises(FileError) as caught:
        Run.open("my run").require("table")
    assert caught.value.hint == "run `adap sweep --run 'my run'` first"
    monkeypatch.setenv("ADAP_RUN", "my run")
    with pytest.raises(FileError) as caught:
        Run.open().require("table")
    assert caught.value.hint == "run `adap sweep` first"
    assert Run.open("adap-run").command("sweep") == "adap sweep --run adap-run"


def test_an_interrupted_piece_is_told_from_a_missing_one(run):
    fill(unfinished(run.table))
    with pytest.raises(FileError) as caught:
        run.require("table")
    assert caught.value.hint == "it was interrupted: `adap sweep --resume` finishes it"


def test_an_empty_folder_is_no_piece_and_may_be_claimed(run):
    run.table.mkdir(parents=True)
    assert not run.has("table")
    assert run.claim("table") == run.table


def test_a_piece_is_found_again(run):
    fill(run.claim("table"))
    assert run.require("table") == run.table == Run.open().require("table")


def test_policies_have_a_folder_each(run):
    for name in ("ppo", "confidence"):
        run.claim("policies", name).mkdir(parents=True)
        (run.policies / name / "policy.json").write_text("{}")
    assert run.policy_names() == ["confidence", "ppo"]
    with pytest.raises(UsageError, match="holds results already"):
        run.claim("policies", "ppo")


@pytest.mark.parametrize("there", [lambda run: run.table, lambda run: unfinished(run.table)])
def test_results_are_never_overwritten_silently(run, there):
    fill(there(run))
    with pytest.raises(UsageError) as caught:
        run.claim("table", resume=False)
    assert "--resume" in caught.value.hint
    assert "--overwrite" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        run.claim("table")
    assert "--resume" not in caught.value.hint
    assert run.claim("table", overwrite=True) == run.claim("table", resume=True) == run.table
    assert (there(run) / "content.json").exists()


def test_overwriting_and_resuming_exclude_each_other(run):
    with pytest.raises(UsageError, match="exclude each other"):
        run.claim("table", overwrite=True, resume=True)


def test_a_file_where_a_folder_belongs(run):
    run.folder.mkdir()
    run.table.write_text("")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        run.claim("table", overwrite=True)


def test_a_folder_that_cannot_be_made(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AdapError, match="cannot make") as caught:
        Run.open("file/run").claim("table")
    assert caught.value.exit_code == 1


def test_every_command_is_recorded_with_what_it_found(run, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/adap", "sweep", "--ckpt", "a b.pt"])
    run.record(checkpoint={"path": run.folder / "m.pt", "fingerprint": "abc"}, seed=1)
    monkeypatch.setattr(sys, "argv", ["adap", "search"])
    Run.open().record(seed=2)
    known = run.provenance()
    assert [command["command"] for command in known["commands"]] == [
        "adap sweep --ckpt 'a b.pt'",
        "adap search",
    ]
    assert known["checkpoint"] == {"path": "adap-run/m.pt", "fingerprint": "abc"}
    assert (known["seed"], known["commands"][0]["seed"]) == (2, 1)
    assert known["commands"][0]["versions"]["torch"]
    assert known["commands"][0]["seconds"] >= 0
    assert known["created"] == known["commands"][0]["started"]


def test_passwords_and_broken_encodings_are_not_recorded(run, monkeypatch):
    path = os.fsdecode(b"\xff.pt")
    monkeypatch.setattr(sys, "argv", ["adap", "search", "--study", "postgresql://me:secret@host/db", path])
    run.record(path=path)
    text = (run.folder / "run.json").read_text("utf-8")
    assert "secret" not in text
    assert "postgresql://me:***@host/db" in text
    assert json.loads(text)["path"] == "\\xff.pt"


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"schema_version": 99}',
        '{"schema_version": 1, "commands": 5}',
        '{"schema_version": 1, "commands": [5]}',
        "not json",
    ],
)
def test_a_damaged_record_is_refused_and_kept(run, content):
    run.folder.mkdir()
    (run.folder / "run.json").write_text(content)
    with pytest.raises(FileError, match=r"run\.json"):
        run.record(seed=1)
    assert (run.folder / "run.json").read_text() == content


def test_a_damaged_record_is_told_before_the_work_not_after(run):
    fill(run.table)
    (run.folder / "run.json").write_text("not json")
    with pytest.raises(FileError, match=r"run\.json") as caught:
        run.require("table")
    assert "move it away" in caught.value.hint
    with pytest.raises(FileError, match=r"run\.json"):
        run.claim("search")


def test_a_command_that_runs_others_records_each_by_its_own_line(tmp_path):
    run = Run.open(tmp_path / "r")
    with acting_as("search", "--flops-target", 0.7):
        run.record(seed=1)
    run.record(seed=2)
    first, second = (entry["command"] for entry in run.provenance()["commands"])
    assert first == "adap search --flops-target 0.7"
    assert second != first
