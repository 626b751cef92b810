"""What the environment says of a process, and what it cannot say."""

import pytest

from adapcli.distributed.launch import LEFTOVERS, Launch
from adapcli.errors import UsageError
from adapcli.main import main

SECOND = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "x",
}
LEFT = {name: value for name, value in SECOND.items() if name != "TORCHELASTIC_RUN_ID"}


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1"}, {"RANK": "3", "MASTER_PORT": "x"}, LEFT])
def test_alone_unless_torchrun_says_otherwise(environment):
    assert Launch.here(environment) == Launch()


def test_what_torchrun_says():
    found = Launch.here(SECOND | {"TORCHELASTIC_RESTART_COUNT": "3"})
    assert found == Launch(rank=1, size=2, local_rank=1, local_size=2, restarts=3)
    assert not found.first


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"RANK": ""}, "WORLD_SIZE is 2, but not set: RANK"),
        ({"MASTER_ADDR": "", "MASTER_PORT": ""}, "not set: MASTER_ADDR, MASTER_PORT"),
        ({"RANK": "2"}, "RANK='2' in the environment: expected a whole number from 0 to 1"),
        ({"RANK": "-1"}, "RANK='-1'"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE='0'"),
        ({"MASTER_PORT": "99999"}, "from 1 to 65535"),
        ({"LOCAL_WORLD_SIZE": "3"}, "LOCAL_WORLD_SIZE='3'"),
        ({"TORCHELASTIC_RESTART_COUNT": "x"}, "TORCHELASTIC_RESTART_COUNT"),
    ],
)
def test_what_it_would_not_say_is_refused(changed, message):
    with pytest.raises(UsageError, match=message):
        Launch.here(SECOND | changed)


def test_what_was_started_again_goes_on():
    assert Launch().again(resume=False, overwrite=True) == (False, True)
    assert Launch(restarts=1).again(resume=False, overwrite=True) == (True, False)


def test_a_world_size_without_the_rest_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: WORLD_SIZE is 2, but not set: RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT\n")
    assert "torchrun --nproc-per-node 2" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "left",
    [LEFT, {"WORLD_SIZE": "4"}, {"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, {"RANK": "3"}],
)
def test_variables_left_by_another_launcher_are_ignored_with_a_warning(monkeypatch, capsys, tmp_path, left):
    monkeypatch.chdir(tmp_path)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "--print-config"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("name: ")
    (line,) = shown.err.splitlines()
    assert line.startswith("warning: not started by torchrun: ")
    assert all(f"{name}={value}" in line for name, value in left.items() if name in LEFTOVERS)
    assert main(["search", "--run", "nowhere"]) == 3
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_other_commands_are_the_work_of_one(monkeypatch, capsys, rank):
    for name, value in (SECOND | {"RANK": rank, "LOCAL_RANK": rank}).items():
        monkeypatch.setenv(name, value)
    assert main(["search"]) == 2
    err = capsys.readouterr().err
    assert ("error: adap search is the work of one process" in err) == (rank == "0")


def test_fsdp_needs_several_processes(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--parallel", "fsdp"]) == 2
    assert "error: --parallel fsdp: shards a model over several processes, and this is one" in (
        capsys.readouterr().err
    )
