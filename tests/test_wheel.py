"""The built wheel, installed in an empty environment, does the main job from an empty folder.

Run by `make wheel-test`; it installs every dependency, so `make test` leaves it out.
"""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from adapcli import __version__

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(1500)]


def call(*command, cwd):
    kept = {name: value for name, value in os.environ.items() if name not in {"ADAP_RUN", "PYTHONPATH"}}
    ended = subprocess.run([*map(str, command)], cwd=cwd, env=kept, capture_output=True, text=True)
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def binaries(wheel, tmp_path_factory):
    """Programs of an environment that holds the wheel and what it asks for, at the pinned versions."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=True)
    pip = [folder / "bin/python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt"]
    call(*pip, "torch", cwd=folder)
    call(*pip, wheel, cwd=folder)
    return folder / "bin"


def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"adapcli", "policies", f"adapcli-{__version__}.dist-info"}
    assert "adapcli/assets/digits.pt" in names
    assert wheel.stat().st_size < 8_000_000


def test_the_main_job_from_an_empty_folder(binaries, tmp_path):
    def adap(*arguments):
        return call(binaries / "adap", *arguments, cwd=tmp_path)

    assert adap("--version") == f"adap {__version__}\n"
    assert json.loads(adap("doctor", "--json"))["checkpoint"]["bytes"]
    adap("sweep", "--limit", "400")
    adap("search", "--flops-target", "0.7")
    adap("train-policy", "--algo", "ppo", "--timesteps", "2048")
    adap("report")
    assert (tmp_path / "adap-run/report/index.html").stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["adap-run"]


def test_a_foreign_policies_is_named(binaries, tmp_path):
    (tmp_path / "policies.py").write_text("")
    command = [binaries / "python", "-m", "adapcli", "--version"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: another package named policies shadows adap's: {tmp_path}")


def test_the_source_distribution_holds_the_packages_and_what_builds_them(tmp_path):
    call(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    tops = {name.partition("/")[0] for name in names}
    files = {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert tops == {"adapcli", "policies", *files}
    assert {"adapcli/py.typed", "policies/py.typed", "policies/GYM.md"} <= set(names)
