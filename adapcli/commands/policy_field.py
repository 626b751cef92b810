"""`adap train-policy --algo all`: the field, and which policy to take."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapcli.commands import keeping
from adapcli.console import Console

if TYPE_CHECKING:
    from adapcli.run import Run
    from policies.field import Field, Request
    from policies.guarantee import Promise
    from policies.table import OutcomeTable

STARTED = "started.json"


def request_of(
    goal: Mapping[str, float | None],
    promise: "Promise | None",
    best_effort: bool,
    timesteps: int | None,
    **others: Any,
) -> "Request":
    """What the options ask of every member; UsageError for those that belong to a single algorithm."""
    from adapcli.errors import UsageError
    from policies.field import Request
    from policies.objective import Objective

    given = [name for name, value in others.items() if value is not None]
    if given:
        raise UsageError(f"--{given[0]} does not go with --algo all", "name one algorithm")
    return Request(Objective(**goal), promise, best_effort, timesteps)


def train_all(
    console: Console, run: "Run", request: "Request", seeds: Sequence[int], *, overwrite: bool, resume: bool
) -> None:
    """Train, keep, tell and recommend. UsageError where results are that are not to be replaced."""
    from policies.field import train_field
    from policies.files import write_csv, write_json
    from policies.table import OutcomeTable

    table = OutcomeTable.load(run.require("table"))
    if not table.labelled:
        console.say("the samples have no labels: what counts is the agreement with the full configuration")
    target = _claim(run, overwrite=overwrite, resume=resume)
    field = train_field(table, request, target, seeds=seeds, resume=True, announce=console.progress)
    _keep_policies(run, table, field)
    write_csv(target / "field.csv", field.frame())
    write_json(target / "field.json", field.to_dict())
    run.record(seed=seeds[0])
    _show(console, field)
    console.result({"field": target, **field.to_dict()})
    console.say(f"saved in {target} and {run.policies}; next: {run.command('report')}")


def _claim(run: "Run", *, overwrite: bool, resume: bool) -> Path:
    """The field's folder, emptied if it is to be overwritten; policies that are not its own stay."""
    from policies.field import entrants
    from policies.files import atomic_folder, read_json, write_json

    names = [entrant.name for entrant in entrants()]
    target = run.claim("field", overwrite=overwrite, resume=resume)
    started = target / STARTED
    if resume and started.exists():
        if not read_json(started).get("replace"):
            _refuse_others(run, names)
        return target
    for name in names:
        run.claim("policies", name, overwrite=overwrite)
    with atomic_folder(target, overwrite=True) as scratch:
        write_json(scratch / STARTED, {"schema_version": 1, "replace": overwrite})
    return target


def _refuse_others(run: "Run", names: Sequence[str]) -> None:
    """UsageError for a policy under a name of the field that none of its members is."""
    from adapcli.errors import UsageError

    for name in names:
        kept = run.policies / name / "policy.json"
        members = (run.field / "members" / name).glob("*/policy.json")
        if kept.exists() and kept.read_bytes() not in {member.read_bytes() for member in members}:
            raise UsageError(
                f"{kept.parent} holds a policy that is not of this field", "add --overwrite to replace it"
            )


def _keep_policies(run: "Run", table: "OutcomeTable", field: "Field") -> None:
    for name, member in field.kept.items():
        judged, found = field.evaluations[name], field.trade_off(name)
        keeping.keep(run.policies / name, table, member.trained, judged, found, overwrite=True)


def _show(console: Console, field: "Field") -> None:
    content = field.to_dict()
    rows = [_row(entry["name"], entry) for entry in content["entries"]]
    rows += [_row(f"{oracle['name']} (not achievable)", oracle) for oracle in content["oracles"]]
    console.table(
        ["policy", "saves at -0.1", "at -0.5", "at -1", "vs static at -0.5", "gap", "95 % interval",
         "seeds", "trained, s"],
        rows,
        title=f"{content['n']} test samples; savings in % of full, at points of score below full; "
        "gap: 0 static, 1 answers known beforehand",
    )  # fmt: skip
    for left in content["skipped"]:
        console.warn(f"{left['name']} is left out: {left['reason']}")
    advice = content["recommendation"]
    console.print(f"recommended: {advice['name']}")
    for line in (*advice["reason"], advice["on_test"]):
        console.print(line)


def _row(name: str, entry: Mapping[str, Any]) -> list[object]:
    savings, gap = entry["savings"], entry["gap"]
    spread = (entry.get("spread") or {}).get("gap")
    return [
        name,
        *(f"{100 * saving['saving_full']['mean']:.1f}" for saving in savings),
        f"{100 * savings[1]['saving_static']['mean']:.1f}",
        None if gap is None else f"{gap['mean']:.3f}",
        None if gap is None else keeping.ends(gap),
        None if spread is None else f"{spread['worst']:.3f} .. {spread['best']:.3f}",
        None if "seconds" not in entry else f"{entry['seconds']:.1f}",
    ]
