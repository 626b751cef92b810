"""Closed pipes, narrow or no terminals, plain locales and odd paths, for whole commands."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from adapcli.main import main
from policies.table import OutcomeTable

ODD = b"a [red] b\xc3\xa9 \xff"


@pytest.fixture
def odd(run, tmp_path):
    """The run folder under a name with spaces, markup, an accent and a byte that is no text."""
    try:
        run.rename(tmp_path / os.fsdecode(ODD))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    return tmp_path / os.fsdecode(ODD)


@pytest.fixture
def ended(spawn):
    def run(*words, **named):
        with spawn(*words, **named) as process:
            out, err = process.communicate(timeout=120)
        return process.returncode, out or b"", err or b""

    return run


def test_odd_paths_on_a_plain_narrow_terminal(ended, odd):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "20"}
    code, out, err = ended("search", "--flops-target", "0.9", "--run", ODD, **plain)
    assert (code, b"Traceback" in err) == (0, False), err
    assert b"Pareto front" in out
    assert b"a [red] b" in err
    assert (odd / "search" / "search.json").exists()


def test_odd_paths_from_sweep_to_report(adap, odd, checkpoint, tmp_path):
    shutil.copy(checkpoint, tmp_path / "[bold]m é.pt")
    words = ["--run", ODD, "--quiet"]
    sweep = ["sweep", "--ckpt", "[bold]m é.pt", "--limit", "40", "--overwrite"]
    for command in (
        sweep,
        ["search", "--flops-target", "0.9"],
        ["train-policy", "--algo", "threshold"],
        ["report"],
    ):
        ended = adap(*command, *words)
        assert ended.code == 0, ended
    assert OutcomeTable.load(odd / "table").configs["model"][0] == "[bold]m é"
    page = (odd / "report" / "index.html").read_text("utf-8")
    assert "[bold]m é" in page
    found = adap("search", *words, "--json", "--overwrite")
    assert json.loads(found.out)["schema_version"] == 1


def test_a_path_that_is_no_text_is_shown_escaped(adap, odd):
    adap("search", "--run", os.fsencode(odd) + b"\xfe").refused(
        3, "no outcome table in ", "a [red] bé \\udcff\\udcfe"
    )


def test_a_reader_that_left(ended, run):
    read, write = os.pipe()
    os.close(read)
    code, _, err = ended("search", "--quiet", stdout=write)
    os.close(write)
    assert (code in (0, 1), err) == (True, b"")
    assert (run / "search" / "search.json").exists()


@pytest.mark.parametrize("names", [["stdout"], ["stderr"], ["stdin", "stdout", "stderr"]])
def test_closed_streams_change_neither_exit_code_nor_what_is_saved(names, adap, run, monkeypatch, capsys):
    commands = ["info"], ["search"], ["train-policy", "--algo", "threshold"], ["search", "--run", "nowhere"]
    codes = []
    for command in commands:
        for name in names:
            monkeypatch.setattr(sys, name, None)
        codes.append(main(command))
        for name in names:
            getattr(sys, name).close()
    assert codes == [0, 0, 0, 3]
    assert (run / "search" / "search.json").exists()
    assert (run / "policies").exists()
    err = capsys.readouterr().err
    assert err.count("error: ") == ("stderr" not in names)


def test_a_closed_stdout_does_not_lend_its_number_to_a_file(run, tmp_path, environment):
    """What a library prints to file 1 would go into it."""
    code = (
        "import os, sys; from adapcli.main import main; main(['--version']); "
        "print([os.readlink(f'/proc/self/fd/{number}') for number in (0, 1, 2)], file=open('fds', 'w'))"
    )
    command = f"exec '{sys.executable}' -c \"{code}\" <&- >&- 2>&-"
    subprocess.run(command, shell=True, cwd=tmp_path, env=environment(), check=True)
    assert (tmp_path / "fds").read_text() == f"{['/dev/null'] * 3}\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
def test_a_full_disk_under_a_stream_is_an_error_on_stdout_only(run, tmp_path, environment):
    """Talk that cannot be written loses nothing."""
    for stream, code in (("2>/dev/full", 0), (">/dev/full", 1)):
        command = f"exec '{sys.executable}' -m adapcli search --overwrite {stream}"
        ended = subprocess.run(command, shell=True, cwd=tmp_path, env=environment(), capture_output=True)
        assert (ended.returncode, b"Traceback" in ended.stderr) == (code, False), ended
        assert (b"No space left on device" in ended.stderr) == bool(code)


@pytest.mark.parametrize("closed", ["2>&-", ">&-"])
def test_closed_streams(closed, run, tmp_path, environment):
    """Talk that has nowhere to go does not go where the data goes."""
    command = f"exec '{sys.executable}' -m adapcli search --json {closed}"
    ended = subprocess.run(command, shell=True, cwd=tmp_path, env=environment(), capture_output=True)
    assert ended.returncode == 0, ended
    assert ended.stderr if closed == ">&-" else json.loads(ended.stdout)
