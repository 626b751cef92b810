"""`adap train-policy --algo all`: the field, and which policy to take."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapcli.commands import keeping
from adapcli.console import Console
from policies.texts import count

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
    target, names = _claim(run, overwrite=overwrite, resume=resume)
    field = train_field(table, request, target, seeds=seeds, resume=True, announce=console.progress)
    _keep_policies(run, table, field, names)
    write_csv(target / "field.csv", field.frame())
    write_json(target / "field.json", field.to_dict())
    run.record(seed=seeds[0])
    _show(console, field, names)
    console.result({"field": target, **field.to_dict(), "saved_as": {n: names[n] for n in field.kept}})
    console.say(f"saved in {target} and {run.policies}; next: {run.command('report')}")


def _claim(run: "Run", *, overwrite: bool, resume: bool) -> tuple[Path, dict[str, str]]:
    """The field's folder, emptied if it is to be overwritten, and what each member is saved as."""
    from policies.field import entrants
    from policies.files import atomic_folder, read_json, write_json

    names = [entrant.name for entrant in entrants()]
    target = run.claim("field", overwrite=overwrite, resume=resume)
    started = target / STARTED
    if resume and started.exists():
        return target, _saved_as(run, names, overwrite=bool(read_json(started).get("replace")))
    found = _saved_as(run, names, overwrite=overwrite)
    with atomic_folder(target, overwrite=True) as scratch:
        write_json(scratch / STARTED, {"schema_version": 1, "replace": overwrite})
    return target, found


def _saved_as(run: "Run", names: Sequence[str], *, overwrite: bool) -> dict[str, str]:
    """Name of a member -> of its policy in the run: `all-NAME` where a policy trained alone has the name.

    UsageError if that is taken as well.
    """
    from adapcli.errors import UsageError

    found = {}
    for name in names:
        free = [saved for saved in (name, f"all-{name}") if overwrite or not _taken(run, name, saved)]
        if not free:
            raise UsageError(
                f"{run.policies} holds policies {name} and all-{name} that were trained alone",
                "move one of them away, or add --overwrite to replace them",
            )
        found[name] = free[0]
    return found


def _taken(run: "Run", name: str, saved: str) -> bool:
    """Whether the run has a policy called `saved` that is no training of this member."""
    kept = run.policies / saved / "policy.json"
    members = (run.field / "members" / name).glob("*/policy.json")
    return kept.exists() and kept.read_bytes() not in {member.read_bytes() for member in members}


def _keep_policies(run: "Run", table: "OutcomeTable", field: "Field", names: Mapping[str, str]) -> None:
    for name, member in field.kept.items():
        judged, found = field.evaluations[name], field.trade_off(name)
        target = run.claim("policies", names[name], overwrite=True)
        keeping.keep(target, table, member.trained, judged, found, overwrite=True)


def _show(console: Console, field: "Field", names: Mapping[str, str]) -> None:
    content = field.to_dict()
    rows = [_row(entry["name"], entry) for entry in content["entries"]]
    rows += [_row(f"{oracle['name']} (not achievable)", oracle) for oracle in content["oracles"]]
    console.table(
        ["policy", "saves at -0.1", "at -0.5", "at -1", "vs static at -0.5", "gap", "95 % interval",
         "seeds", "trained, s"],
        rows,
        title=f"{count(content['n'], 'test sample')}; savings in % of full, at points of score below full; "
        "gap: 0 static, 1 answers known beforehand",
    )  # fmt: skip
    for left in content["skipped"]:
        console.warn(f"{left['name']} is left out: {left['reason']}")
    others = {name: saved for name, saved in names.items() if saved != name and name in field.kept}
    for name, saved in others.items():
        console.say(f"policy {name} was trained alone and stays; the one compared here is {saved}")
    advice = content["recommendation"]
    saved = names[advice["name"]]
    console.print(f"recommended: {advice['name']}" + (f", saved as {saved}" * (saved != advice["name"])))
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
