"""`adap demo`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from adapcli.commands.options import Json, Limit, Overwrite, Quiet, Resume
from adapcli.console import Console


def demo(
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Run folder.")] = Path("adap-demo"),
    limit: Limit = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole pipeline on embedded data and the packaged checkpoint.

    Sweeps, searches, trains two policies and reports.
    """
    from adapcli.commands.report import report
    from adapcli.commands.search import search
    from adapcli.commands.sweep import sweep
    from adapcli.commands.train_policy import train_policy
    from adapcli.run import acting_as

    console, again = Console(json=json, quiet=quiet), overwrite or resume  # all but the sweep take seconds
    steps: list[tuple[str, Callable[..., None], dict[str, Any]]] = [
        ("adap sweep", sweep, {"limit": limit, "resume": resume, "overwrite": overwrite}),
        ("adap search --flops-target 0.7", search, {"flops_target": 0.7, "overwrite": again}),
        ("adap train-policy --algo threshold", train_policy, {"algo": "threshold", "overwrite": again}),
        ("adap train-policy --algo ppo", train_policy, {"algo": "ppo", "overwrite": again}),
        ("adap report", report, {}),
    ]
    results = {}
    for number, (line, command, options) in enumerate(steps, 1):
        console.say(f"{number}/{len(steps)} {line}")
        with acting_as(*line.split()[1:], "--run", run):
            results[line] = _result(command, run=run, json=json, quiet=quiet, **options)
    index = (run / "report" / "index.html").resolve()
    console.print(f"report: {index}")
    console.result({"report": index, "commands": results})


def _result(command: Callable[..., None], *, json: bool, **options: Any) -> Any:
    """Run a command; with --json the object that it prints, which then becomes a part of the one object."""
    if not json:
        return command(json=False, **options)
    import io
    from contextlib import redirect_stdout
    from json import loads

    with redirect_stdout(io.StringIO()) as caught:
        command(json=True, **options)
    return loads(caught.getvalue())
