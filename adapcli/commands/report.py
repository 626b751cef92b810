"""`adap report`."""

from pathlib import Path
from typing import Annotated

import typer

from adapcli.commands.options import Json, Quiet, RunFolder
from adapcli.console import Console


def report(
    compare: Annotated[
        Path | None,
        typer.Option("--compare", metavar="RUN", help="Another run folder, shown beside this one."),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
    run: RunFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw what the run holds: a page, figures and tables.

    A report is made anew each time, in place of the one before.
    """
    from adapcli.report import summary
    from adapcli.report.build import build
    from adapcli.run import Run

    console = Console(json=json, quiet=quiet)
    other = None if compare is None else Run.open(compare)
    with console.progress("drawing") as progress:
        made = build(Run.open(run), compare=other, progress=progress)
    for line in made.findings.warnings:
        console.warn(line)
    for line in summary.verdict(made):
        console.print(line)
    console.table(summary.columns(made.findings), summary.rows(made.findings))
    console.print(f"report: {made.index}")
    console.result(summary.as_data(made))
    if open_page:
        typer.launch(str(made.index.resolve()))
