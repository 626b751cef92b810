"""`adap evaluate-policy`."""

from typing import TYPE_CHECKING, Annotated

import typer

from adapcli.commands.options import Json, Quiet, RunFolder, one_of
from adapcli.commands.units import flops_text, percent_text
from adapcli.console import Console
from policies.texts import count

if TYPE_CHECKING:
    from policies.evaluate import Evaluation
    from policies.table import OutcomeTable
    from policies.transfer import Drift, Shift, Transfer

SHOWN = 5
"""Drifts shown even if none is beyond chance; all that are beyond chance always."""


def evaluate_policy(
    policy: Annotated[
        str, typer.Option("--policy", metavar="NAME", help="A policy of the run, or a policy's folder.")
    ],
    split: Annotated[
        str,
        typer.Option(
            "--split",
            parser=one_of("fit", "tune", "calibration", "test"),
            metavar="NAME",
            help="Samples to judge by: fit, tune, calibration or test.",
        ),
    ] = "test",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if what the policy looks at has drifted.")
    ] = False,
    run: RunFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Try a kept policy on another run's samples, and see what drifted.

    The other run's table must be of the same checkpoint and configurations; its data may be any. Reports what
    the policy gives there beside what it promised, whether what it looks at is distributed as where it was
    fitted, and when to calibrate anew.
    """
    from adapcli.commands.policies import find_policy
    from adapcli.run import Run
    from policies import registry, transfer
    from policies.table import OutcomeTable

    console, folder = Console(json=json, quiet=quiet), Run.open(run)
    table = OutcomeTable.load(folder.require("table"))
    place = find_policy(policy, folder)
    found = transfer.apply(registry.load(place), place, table, split)
    _show(console, found, table, again=folder.command("train-policy --algo threshold"))
    console.result({"policy": place, "table": folder.table, **found.to_dict()})
    if strict and found.drifted:
        raise typer.Exit(1)


def _show(console: Console, found: "Transfer", table: "OutcomeTable", again: str) -> None:
    _show_outcome(console, found, table)
    _show_drift(console, found.drift, table)
    _show_certificate(console, found)
    if found.reasons:
        console.warn(f"calibrate anew on samples like these: {'; '.join(found.reasons)}")
        console.say(f"next: {again}")
    elif found.drift is not None:
        console.print("nothing asks for calibrating anew")


def _show_outcome(console: Console, found: "Transfer", table: "OutcomeTable") -> None:
    """Here beside what was promised, one row per measure."""
    from adapcli.report.labels import score_name

    here, promised = found.evaluation, found.promised
    if found.same_data:
        console.print("the samples are those of the table that the policy was made with")
    if not found.labelled:
        console.print("the samples have no labels: what counts is the agreement with the full configuration")
    columns = ["", f"here, {here.split}, n = {here.n}", "95 % interval"]
    columns += (
        ["-", "95 % interval"] if promised is None else [f"promised, n = {promised.n}", "95 % interval"]
    )
    rows = [
        [name, *_cells(here, name), *(["-", "-"] if promised is None else _cells(promised, name))]
        for name in MEASURES
        if found.labelled or name not in NEED_LABELS
    ]
    named = {"score": f"{score_name(table)}, %"}
    console.table(columns, [[named.get(row[0], MEASURES[row[0]]), *row[1:]] for row in rows])


MEASURES = {
    "score": "score, %",
    "score_difference": "against full, points",
    "agreement": "answers as full, %",
    "cost_flops": "cost",
    "saving_full": "saves, vs full",
    "saving_static": "saves, vs static",
}
NEED_LABELS = ("score", "score_difference")


def _cells(judged: "Evaluation", name: str) -> list[str]:
    """A measure and its interval."""
    found = getattr(judged, name)
    if name == "cost_flops":
        return [flops_text(found.mean), f"{flops_text(found.low)} .. {flops_text(found.high)}"]
    if name.startswith("saving"):
        return [percent_text(found.mean), f"{100 * found.low:.1f} .. {100 * found.high:.1f}"]
    sign = "+" if name == "score_difference" else ""
    return [f"{100 * found.mean:{sign}.2f}", f"{100 * found.low:{sign}.2f} .. {100 * found.high:{sign}.2f}"]


def _show_drift(console: Console, drift: "Drift | None", table: "OutcomeTable") -> None:
    """All shifts beyond chance, the surest first, and what they mean."""
    if drift is None:
        console.warn("drift is not known: nothing is kept of what the policy was fitted on; train it again")
        return
    if not drift.shifts:
        console.print("the policy looks at nothing that could drift")
        return
    moved = sum(shift.drifted for shift in drift.shifts)
    chance = sum(shift.beyond_chance for shift in drift.shifts)
    rows = [_shift_cells(shift, table) for shift in drift.shifts[: max(SHOWN, chance)]]
    columns = ["looked at", "signal", "moved, points", "own splits", "samples", "before", "p, corrected", ""]
    console.table(columns, rows, title=f"what it looks at, against the {drift.split} samples; by evidence")
    console.print(
        f"{moved} of {count(len(drift.shifts), 'distribution')} drifted; {chance} "
        f"{'differs' if chance == 1 else 'differ'} by more than chance. "
        f"Less than {100 * drift.visible:.1f} points might not show with so many samples"
    )
    if drift.left_out:
        console.print(f"places that too few samples get to, left out: {drift.left_out}")


def _shift_cells(shift: "Shift", table: "OutcomeTable") -> list[object]:
    from adapcli.report import labels

    at = shift.configuration
    verdict = "drifted" if shift.drifted else "small" if shift.beyond_chance else "chance"
    return [
        "before it runs" if at is None else labels.configuration(table.configs, at),
        shift.name,
        f"{100 * shift.distance:.1f}",
        f"{100 * shift.own:.1f}",
        shift.n,
        shift.n_before,
        f"{shift.adjusted:.2g}",
        verdict,
    ]


def _show_certificate(console: Console, found: "Transfer") -> None:
    if found.certificate is None or not found.certificate.certified:
        return
    if found.certificate_applies is False:
        console.warn("the policy's guarantee does not hold here: these are not like the calibration samples")
    elif found.certificate_applies is None:
        console.warn("whether the policy's guarantee holds here is not known")
    else:
        console.print("nothing speaks against the policy's guarantee: samples like the calibration ones")
