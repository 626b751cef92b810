"""Ctrl-C and SIGTERM: what is told, and that it goes on from there. For `adap train`, see its tests."""

import re
import shlex
import signal
import time

import pytest

from policies.table import OutcomeTable
from policies.table.writer import partial_folder

START = "hint: continue with: python -m adapcli "


def told(err):
    """The words of the command that continues."""
    (line,) = (line for line in err.splitlines() if line.startswith("hint: "))
    assert line.startswith(START)
    return shlex.split(line.removeprefix(START))


@pytest.mark.slow
def test_a_sweep_goes_on_with_the_command_told(adap, spawn, tmp_path, checkpoint):
    words = [
        "sweep",
        "--ckpt",
        checkpoint,
        "--limit",
        2_500,
        "--batch",
        16,
        "--run",
        "my run",
        "--overwrite",
    ]
    table = tmp_path / "my run" / "table"
    with spawn(*words) as process:
        while not list((partial_folder(table) / "ledger").glob("0*.json")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, b"")
    assert b"Traceback" not in err
    again = told(err.decode())
    assert again == [*map(str, words[:-1]), "--resume"]
    assert not table.exists()
    assert adap(*again).code == 0
    assert OutcomeTable.load(table).n_samples == 2_498


def test_a_search_goes_on_with_its_study(adap, run, monkeypatch):
    calls = []

    def stop(self, done, total, note=""):
        calls.append(done)
        if len(calls) == 3:
            raise KeyboardInterrupt

    words = ["search", "--sampler", "random", "--trials", 9, "--study", "a b.log"]
    with monkeypatch.context() as patch:
        patch.setattr("adapcli.console.Heartbeat.__call__", stop)
        ended = adap(*words)
    assert ended.code == 130
    assert not (run / "search").exists()
    again = told(ended.err)
    assert again == [*map(str, words)]
    ended = adap(*again)
    assert ended.code == 0
    assert re.search("9 configurations evaluated, [67] of them now", ended.out)


def test_a_report_that_is_interrupted_leaves_the_one_before(adap, run, monkeypatch, contents):
    (run / "report").mkdir()
    (run / "report" / "index.html").write_text("the one before")
    before = contents(run)
    with monkeypatch.context() as patch:
        patch.setattr("adapcli.report.build.write", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert adap("report").code == 130
    assert contents(run) == before
