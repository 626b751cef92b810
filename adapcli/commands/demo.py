"""`adap demo`."""

from pathlib import Path
from typing import Annotated

import typer

from adapcli.commands.options import Limit, Overwrite, Quiet, Resume
from adapcli.console import Console


def demo(
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Run folder.")] = Path("adap-demo"),
    limit: Limit = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole pipeline on embedded data and the packaged checkpoint.

    Sweeps, searches, trains two policies and reports.
    """
    from adapcli.commands.report import report
    from adapcli.commands.search import search
    from adapcli.commands.sweep import sweep
    from adapcli.commands.train_policy import train_policy

    console = Console(quiet=quiet)
    console.say("1/4 adap sweep")
    sweep(run=run, limit=limit, resume=resume, overwrite=overwrite, quiet=quiet)
    overwrite = overwrite or resume  # what follows takes seconds
    console.say("2/4 adap search --flops-target 0.5")
    search(run=run, flops_target=0.5, overwrite=overwrite, quiet=quiet)
    for algo in ("threshold", "ppo"):
        console.say(f"3/4 adap train-policy --algo {algo}")
        train_policy(run=run, algo=algo, overwrite=overwrite, quiet=quiet)
    console.say("4/4 adap report")
    report(run=run, quiet=quiet)
    console.print(f"report: {(run / 'report' / 'index.html').resolve()}")
