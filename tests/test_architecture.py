"""The shape of the code: layers, commands and sizes; and that breaking a layer is noticed."""

import ast
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adapcli.main import app

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / "adapcli").rglob("*.py"), *(ROOT / "policies").rglob("*.py")])
COMMAND_LINES = {command.name: command.callback for command in app.registered_commands}


def lint_imports(folder):
    linter = Path(sys.executable).parent / "lint-imports"
    command = [linter, "--no-cache"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(folder)}
    )


@pytest.fixture
def copy(tmp_path):
    """A copy of the sources whose layers may be broken."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("adapcli", "policies"):
        ignore = shutil.ignore_patterns("__pycache__", "assets")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignore)
    return tmp_path


def test_the_layers_hold():
    ended = lint_imports(ROOT)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("policies/pareto.py", "import adapcli.space", "policies stands alone"),
        ("policies/errors.py", "import policies.table", "policies: rooms point downwards"),
        ("adapcli/space.py", "import adapcli.model", "adapcli: rooms point downwards"),
        ("adapcli/space.py", "import torch", "leaves import no torch"),
        ("adapcli/run.py", "import rich.table", "only the commands"),
        ("adapcli/measure/device.py", "import policies.base", "only commands and report"),
        ("adapcli/utils.py", "", "every room has its layer"),
    ],
)
def test_breaking_a_layer_is_noticed(copy, file, line, contract):
    with (copy / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
    ended = lint_imports(copy)
    broken = ended.stdout.partition("Broken contracts")[2] or ended.stdout
    assert ended.returncode != 0
    assert contract in broken


def test_every_file_with_a_function_of_its_name_is_a_command():
    for path in (ROOT / "adapcli/commands").glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        named = any(isinstance(node, ast.FunctionDef) and node.name == path.stem for node in tree.body)
        assert named == (path.stem.replace("_", "-") in COMMAND_LINES), path.name


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_every_command_is_explained(name):
    function = COMMAND_LINES[name]
    assert function.__doc__
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        options = [found for found in parameter.annotation.__metadata__ if hasattr(found, "help")]
        assert options, parameter.name
        assert options[0].help, parameter.name


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_every_command_is_in_the_readme(name):
    assert f"adap {name}" in (ROOT / "README.md").read_text("utf-8")


def bodies():
    """Every function's name and the lines its body takes, signature and docstring apart."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                documented = ast.get_docstring(node) is not None and len(node.body) > 1
                first = node.body[1 if documented else 0]
                yield f"{path.relative_to(ROOT)}:{node.name}", node.end_lineno - first.lineno + 1


def test_functions_are_short():
    lengths = list(bodies())
    assert [(name, length) for name, length in lengths if length > 45] == []
    assert sorted(length for _, length in lengths)[len(lengths) // 2] <= 10
