"""The Typer app, and the one place where an exception becomes a line on stderr and an exit code."""

import inspect
import os
import shlex
import sys
from collections.abc import Sequence
from errno import EMFILE
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from adapcli import __version__
from adapcli.console import Console, discard
from adapcli.distributed.launch import ElsewhereError, Launch, LostError, launched, leftovers, speaks
from adapcli.errors import INTERRUPTED, TERMINATED, AdapError, UsageError

COMMANDS = (
    "sweep",
    "search",
    "train-policy",
    "evaluate-policy",
    "bench",
    "report",
    "predict",
    "extract",
    "export",
    "info",
    "train",
    "diagnose",
    "demo",
    "doctor",
)

GROUPS = ("data",)
"""Groups of commands: `adap data inspect`."""

SEVERAL = ("train", "sweep")
"""The commands that torchrun may start in several processes."""

app = typer.Typer(
    name="adap",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"adap {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _adap(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Decide how to run an adaptive transformer.

    Score every configuration once (sweep), then search, learn policies and report from the outcome table.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


for _name in COMMANDS:
    _file = _name.replace("-", "_")
    app.command(_name)(getattr(import_module(f"adapcli.commands.{_file}"), _file))

for _name in GROUPS:
    app.add_typer(import_module(f"adapcli.commands.{_name}").app, name=_name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: this process's); returns the exit code, never raises."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    _prepare_streams()
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read the output has left: not worth a word
        discard(sys.stdout)
        return 1
    except OSError as error:
        discard(sys.stdout)
        Console().error(f"cannot write to the standard output: {error.strerror}")
        return 1


def _run(arguments: Sequence[str]) -> int:
    console = Console()
    try:
        _refuse_several(arguments)
        if _command(arguments) in SEVERAL and (found := leftovers()):
            console.warn(f"not started by torchrun: {', '.join(found)} in the environment is ignored")
        code = app(args=list(arguments), prog_name=_program(), standalone_mode=False) or 0
    except (AdapError, typer.TyperException, typer.Abort) as error:
        if isinstance(error, ElsewhereError | LostError) or speaks():
            console.error(*_known(error))
        return getattr(error, "exit_code", 1)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("ADAP_DEBUG") == "1":
            raise
        console.error(*_unknown(error))
        return 1
    if code in (INTERRUPTED, TERMINATED) and speaks():
        console.error("interrupted" if code == INTERRUPTED else "terminated", _again(arguments))
    return code


def _refuse_several(arguments: Sequence[str]) -> None:
    name = _command(arguments)
    if launched() and name in (*COMMANDS, *GROUPS) and name not in SEVERAL and Launch.here().size > 1:
        raise UsageError(f"adap {name} is the work of one process", "start it without torchrun")


def _known(error: Exception) -> tuple[str, str]:
    if isinstance(error, AdapError):
        return error.message, error.hint
    if isinstance(error, typer.Abort):
        return "stopped: no answer", ""
    context = getattr(error, "ctx", None)
    message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
    return message, f"see `{context.command_path} --help`" if context else ""


def _unknown(error: Exception) -> tuple[str, str]:
    kind = type(error).__name__
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError":
        return "out of memory", "a smaller --batch needs less"
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, ImportError):
        return f"{kind}: {text}", "a package is missing or broken; install adap again"
    if isinstance(error, OSError) and error.strerror:
        hint = "`ulimit -n` shows how many files a process may hold open" if error.errno == EMFILE else ""
        return f"{error.filename or 'system'}: {error.strerror}", hint
    return f"{kind}: {text}", "this is a defect of adap; ADAP_DEBUG=1 shows where it happened"


def _again(arguments: Sequence[str]) -> str:
    """What to type to go on: the same command line, with `--resume` where the command knows it."""
    words = list(arguments)
    if _has_resume(_command(words)) and _resumable(words):
        words = [*(word for word in words if word not in ("--overwrite", "--resume")), "--resume"]
    return f"continue with: {_program()} {shlex.join(words)}"


def _command(arguments: Sequence[str]) -> str:
    return next((word for word in arguments if not word.startswith("-")), "")


def _has_resume(name: str) -> bool:
    functions = (command.callback for command in app.registered_commands if command.name == name)
    return any("resume" in inspect.signature(function).parameters for function in functions if function)


def _resumable(words: Sequence[str]) -> bool:
    """Of policies only the whole field is trained piece by piece."""
    return _command(words) != "train-policy" or "all" in words or "--algo=all" in words


def _program() -> str:
    if launched():
        # Without the dashes torchrun takes --run for a beginning of its own --run-path.
        return f"torchrun --nproc-per-node {os.environ['WORLD_SIZE']} -m -- adapcli"
    return "adap" if Path(sys.argv[0]).name == "adap" else "python -m adapcli"


def _prepare_streams() -> None:
    """Streams that accept any text, also where the shell closed them (`>&-`).

    A closed one becomes the null device, under the same number: the next file that is opened would otherwise
    get it, and whatever a library prints would go into that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text
