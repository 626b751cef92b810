"""The command line as a person or a script meets it: in a process of its own."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from PIL import Image

from adapcli import __version__
from adapcli.commands import options
from adapcli.main import app, main

ROOT = Path(__file__).parent.parent
NAMES = [command.name for command in app.registered_commands]
HEAVY = (
    "torch",
    "pandas",
    "numpy",
    "matplotlib",
    "optuna",
    "gymnasium",
    "stable_baselines3",
    "sklearn",
    "rich",
)

# A command with every way to end, registered as a real one is.
PROBE = """
import os, signal, sys, time
from pathlib import Path
from adapcli import errors
from adapcli.__main__ import run
from adapcli.commands.options import Json, Overwrite, Resume
from adapcli.console import Console
from adapcli.main import app

@app.command("probe")
def probe(
    how: str,
    path: list[str] = ["m.pt"],
    json: Json = False,
    overwrite: Overwrite = False,
    resume: Resume = False,
):
    "Probe."
    console = Console(json=json)
    if how == "sleep":
        print("ready", flush=True)
        time.sleep(30)
    elif how == "flood":
        for _ in range(100_000):
            console.print("line")
    elif how == "show":
        console.table(["path"], [[Path(name)] for name in path])
        console.result({"path": [Path(name) for name in path]})
        for name in path:
            console.error(f"{name}: shown")
    elif how == "progress":
        with console.progress("[red]job") as progress:
            for done in range(3):
                progress(done, 2, note="[b]")
                console.warn("careful")
    elif how == "memory":
        raise MemoryError
    elif how == "disk":
        raise OSError(28, "No space left on device", path[0])
    elif how == "defect":
        raise RuntimeError("first line\\nsecond line")
    else:
        raise getattr(errors, how)(f"{path[0]}: not usable", "try another")

@app.command("once")
def once():
    "No resume."
    raise KeyboardInterrupt

run()
"""


def environment(**changed):
    kept = {
        name: value for name, value in os.environ.items() if name not in {"ADAP_RUN", "COLUMNS", "NO_COLOR"}
    }
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **changed}


def adap(*arguments, **changed):
    command = [sys.executable, "-m", "adapcli", *arguments]
    return subprocess.run(command, capture_output=True, env=environment(**changed), text=True, timeout=120)


def probe(*arguments, **changed):
    command = [sys.executable, "-c", PROBE, *arguments]
    return subprocess.run(command, capture_output=True, env=environment(**changed), timeout=60)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from adapcli.main import main\n"
        f"for words in [[], *([name] for name in {NAMES})]: assert main([*words, '--help']) == 0, words\n"
        f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment(), text=True)
    assert ended.stderr == "[]\n"
    assert ended.returncode == 0


def test_the_list_of_heavy_modules_would_be_noticed():
    code = f"import sys, numpy; print([m for m in {HEAVY} if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment(), text=True)
    assert ended.stdout == "['numpy']\n"


def test_predict_imports_what_a_running_model_needs_alone(tmp_path):
    """No compiler, tables or figures: `experiments/benchmarks/startup.py` tells what that saves."""
    Image.new("L", (32, 32), 90).save(tmp_path / "a.png")
    needless = [name for name in HEAVY if name not in ("torch", "numpy", "rich")]
    needless += ["torch._dynamo", "torch._inductor", "sympy", "scipy"]
    code = (
        "import sys; from adapcli.main import main\n"
        f"assert main(['predict', 'a.png', '--quiet']) == 0\n"
        f"print([m for m in {needless} if m in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, env=environment(), text=True, cwd=tmp_path)
    assert ended.stderr == "[]\n"
    assert ended.stdout.startswith("path,class,")


def test_alone_shows_help_and_is_a_usage_error():
    ended = adap()
    assert ended.returncode == 2
    assert "Commands:" in ended.stdout


def test_version():
    ended = adap("--version")
    assert (ended.returncode, ended.stdout) == (0, f"adap {__version__}\n")


@pytest.mark.parametrize("name", NAMES)
def test_a_mistyped_command_gets_a_suggestion(name, capsys):
    mistyped = name[:-2] + name[-1] + name[-2]
    assert main([mistyped]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"error: No such command '{mistyped}'. Did you mean '{name}'" in shown.err


def test_an_unknown_option_is_a_usage_error():
    ended = adap("doctor", "--foo")
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "error: No such option: --foo",
        "hint: see `python -m adapcli doctor --help`",
    ]


def test_a_device_that_does_not_exist():
    ended = adap("doctor", "--device", "cudaa")
    assert ended.returncode == 2
    assert "allowed are auto, cpu, cuda, cuda:N" in ended.stderr


@pytest.mark.slow
def test_doctor_tells_one_object_with_json():
    ended = adap("doctor", "--json", "--quiet")
    facts = json.loads(ended.stdout)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert facts["schema_version"] == 1
    assert facts["adap"] == __version__
    assert facts["versions"]["torch"]
    assert facts["devices"][0]["threads"] >= 1


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0", "0,7", "70", "1.01", "", "x", "%", "101%", "7%%"])
def test_a_fraction_is_in_zero_to_one(text):
    with pytest.raises(typer.BadParameter, match=r"a fraction in \(0, 1\]: write 0.7"):
        options.fraction(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.7", 0.7), ("1", 1.0), (".5", 0.5), ("1e-3", 0.001), ("70%", 0.7), ("0.7 %", 0.007), ("100%", 1.0)],
)
def test_a_fraction_is_read(text, value):
    assert options.fraction(text) == value


def test_a_percentage_without_its_sign_is_shown_both_spellings():
    with pytest.raises(typer.BadParameter, match=r"write 0\.3 or 30%"):
        options.fraction("30")


@pytest.mark.parametrize("text", ["0", "-1", "9", "1.5", "", "x", "1e3", "9" * 400, "٣"])
def test_a_whole_number_names_its_range(text):
    with pytest.raises(typer.BadParameter, match="expected a whole number from 1 to 8"):
        options.whole(1, 8)(text)


def test_a_whole_number_is_read():
    assert [options.whole(-2, 8)(text) for text in ("-2", "8", 3)] == [-2, 8, 3]


@pytest.mark.parametrize("text", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_device_is_read(text):
    assert options.device(text) == text


@pytest.mark.parametrize("text", ["cudaa", "", "CUDA", "cuda:", "cuda:-1", "cuda:0:1", "cpu:0", "cuda:1234"])
def test_another_device_names_the_allowed_ones(text):
    with pytest.raises(typer.BadParameter, match="allowed are auto, cpu, cuda, cuda:N"):
        options.device(text)


@pytest.mark.parametrize(
    ("how", "code"),
    [("AdapError", 1), ("UsageError", 2), ("FileError", 3), ("UnavailableError", 4), ("InfeasibleError", 5)],
)
def test_a_known_error_is_a_line_a_hint_and_a_code(how, code):
    ended = probe("probe", how)
    assert ended.returncode == code
    assert ended.stdout == b""
    assert ended.stderr.decode().splitlines() == ["error: m.pt: not usable", "hint: try another"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("memory", "error: out of memory"),
        ("disk", "error: m.pt: No space left on device"),
        ("defect", "error: RuntimeError: first line"),
    ],
)
def test_an_unknown_error_is_one_line(how, message):
    ended = probe("probe", how)
    assert ended.returncode == 1
    assert ended.stderr.decode().splitlines()[0] == message
    assert b"Traceback" not in ended.stderr


def test_debug_shows_the_traceback():
    ended = probe("probe", "defect", ADAP_DEBUG="1")
    assert ended.returncode == 1
    assert b"Traceback" in ended.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_names_the_one_that_resumes(number, code):
    command = [sys.executable, "-c", PROBE, "probe", "sleep", "--overwrite", "--path", "a b.pt"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.1)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == code
    expected = "hint: continue with: python -m adapcli probe sleep --path 'a b.pt' --resume"
    assert stderr.decode().splitlines()[1] == expected


def test_a_command_that_cannot_resume_is_repeated():
    ended = probe("once")
    assert ended.returncode == 130
    assert ended.stderr.decode().splitlines()[1] == "hint: continue with: python -m adapcli once"


@pytest.mark.parametrize("arguments", [("probe", "flood"), ("--help",)])
def test_a_closed_pipe_is_quiet(arguments):
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], stdout=write, stderr=subprocess.PIPE, env=environment()
    )
    os.close(write)
    assert ended.returncode in (0, 1)
    assert ended.stderr == b""


def test_closed_streams_do_no_harm():
    for closed in (">&-", "2>&-"):
        command = f'"{sys.executable}" -m adapcli --version {closed}'
        ended = subprocess.run(command, shell=True, capture_output=True, env=environment())
        assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("changed", [{"COLUMNS": "20"}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_narrow_or_plain_terminals_work(changed):
    for arguments in (["--help"], ["doctor", "--help"], ["probe", "show"]):
        ended = probe(*arguments, **changed)
        assert ended.returncode == 0, ended.stderr
        assert b"Traceback" not in ended.stderr


PATHS = [
    b"a b.pt",
    b"[red]x[/red].pt",
    b"[/x].pt",
    b"caf\xc3\xa9.pt",
    b"\xff\xfe.pt",
    b"x\x1b[31m.pt",
    b"x\ny.pt",
]


@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize("changed", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_any_path_can_be_shown(more, changed):
    options_of_paths = [word for path in PATHS for word in ("--path", path)]
    ended = probe("probe", "show", *more, *options_of_paths, **changed)
    errors = ended.stderr.splitlines()
    assert (ended.returncode, len(errors)) == (0, len(PATHS)), ended.stderr
    assert errors[1] == b"error: [red]x[/red].pt: shown"
    assert b"\x1b" not in ended.stdout + ended.stderr
    assert len(ended.stdout.splitlines()) == (1 if more else 1 + len(PATHS))


def on_terminal(*arguments, **changed):
    """Run the probe with a terminal as stderr; returns what the terminal got."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", PROBE, *arguments]
    changed = {"TERM": "xterm", **changed}
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment(**changed))
    os.close(theirs)
    shown = os.read(ours, 10_000)
    os.close(ours)
    return shown


def test_a_terminal_gets_colour_and_no_markup_is_read():
    shown = on_terminal("probe", "FileError", "--path", "[red]x")
    assert b"\x1b[1;31merror:\x1b[0m " in shown
    assert b"[red]x: not usable" in shown


def test_no_color_is_honoured():
    shown = on_terminal("probe", "FileError", NO_COLOR="1")
    assert b"\x1b" not in shown


def test_what_is_said_during_progress_gets_lines_of_its_own():
    shown = on_terminal("probe", "progress", NO_COLOR="1", COLUMNS="100").decode()
    assert shown.count("\x1b[2Kwarning: careful\r\n") == 3
    assert "[red]job" in shown
    assert "2/2" in shown
