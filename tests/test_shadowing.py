"""A foreign `policies` on Python's path is named in one line; one that does not shadow ours does no harm."""

import subprocess
import sys

import pytest

import adapcli

USE = "import adapcli; print(adapcli.Configuration(1, 8, 1).tokens)"


def run(*command, cwd):
    return subprocess.run([sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["policies.py", "policies/__init__.py"])
def test_a_foreign_policies_is_named_in_one_line(tmp_path, name):
    foreign = tmp_path / name
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("raise SystemExit('ran')")
    (tmp_path / "script.py").write_text(USE)
    message = f"another package named policies shadows adap's: {foreign}"
    in_python, command = run("script.py", cwd=tmp_path), run("-m", "adapcli", "--version", cwd=tmp_path)
    assert in_python.stderr.splitlines()[-1] == f"ImportError: {message}; rename it, or run elsewhere"
    assert command.stderr == f"error: {message}\nhint: rename it, or run elsewhere\n"
    assert (in_python.returncode, command.returncode) == (1, 1)


@pytest.mark.parametrize("command", [["script.py"], ["-m", "adapcli", "--version"]])
def test_a_folder_without_init_does_no_harm(tmp_path, command):
    """As in a run folder, whose trained policies are in `policies/`."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "script.py").write_text(USE)
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] in ("1", adapcli.__version__)


def test_one_that_was_imported_before_is_named(tmp_path):
    (tmp_path / "policies.py").write_text("")
    done = run("-c", f"import policies; {USE}", cwd=tmp_path)
    assert "another package named policies shadows adap's" in done.stderr.strip().splitlines()[-1]
