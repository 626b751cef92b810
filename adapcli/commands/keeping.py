"""A trained policy in the run folder: what is written, and what is told of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapcli.commands.units import percent_text
from adapcli.console import Console

if TYPE_CHECKING:
    from policies.base import Trained
    from policies.curves import TradeOff
    from policies.evaluate import Evaluation
    from policies.table import OutcomeTable


def keep(
    target: Path,
    table: "OutcomeTable",
    trained: "Trained",
    judged: "Evaluation",
    found: "TradeOff",
    *,
    overwrite: bool,
) -> None:
    """Write the policy into `target`, all files or none.

    evaluation.json: see `told`; choices.csv: what was decided per test sample; curve.csv: its whole
    trade-off; reference.json: what it was fitted on.
    """
    from policies import base, evaluate, transfer
    from policies.files import atomic_folder, write_csv, write_json

    rows = table.rows("test")
    with atomic_folder(target, overwrite=overwrite) as scratch:
        base.save(trained.policy, scratch, certificate=trained.certificate)
        write_csv(scratch / "choices.csv", evaluate.choices(trained.policy.select(table, rows), table, rows))
        write_csv(scratch / "curve.csv", found.frame())
        write_json(scratch / "evaluation.json", {"schema_version": 1, **told(trained, judged, found)})
        transfer.Reference.of(trained.policy, table).save(scratch)


def told(trained: "Trained", judged: "Evaluation", found: "TradeOff") -> dict[str, Any]:
    """What a policy was chosen for, how it turned out, and what its whole trade-off is worth; JSON values."""
    from policies.evaluate import met

    return {
        "evaluation": judged.to_dict(),
        "objective": trained.objective.to_dict(),
        "target": trained.target,
        "met": trained.met,
        "met_on_test": met(trained.objective, judged),
        "tune": {"score": trained.score, "cost_flops": trained.cost_flops},
        "candidates": trained.candidates,
        "curve": found.to_dict(),
        **({} if trained.certificate is None else {"certificate": dict(trained.certificate)}),
    }


def show_curve(console: Console, found: "TradeOff") -> None:
    """The savings of the whole trade-off at given drops, and the gap that it closes, in two lines."""
    content = found.to_dict()
    savings = [
        f"{percent_text(saving['saving_full']['mean'])} at {100 * saving['drop']:g} "
        f"({spread(saving['saving_full'])})"
        for saving in content["savings"]
    ]
    beaten = any(saving["saving_static"]["mean"] > 1e-3 for saving in content["savings"])
    alone = "" if beaten else ", as static choices alone do"
    console.print(f"its curve saves, by points below full: {', '.join(savings)}{alone}")
    gap = content["gap"]
    if gap is None:
        return console.print("answers known beforehand would save no more than static choices do")
    closed = f"gap closed: {gap['mean']:.2f} ({ends(gap)})"
    console.print(f"{closed}, of what answers known beforehand would save; 0 is static")


def spread(interval: dict[str, float]) -> str:
    """The ends of an interval of shares, in percent."""
    return f"{100 * interval['low']:.1f} .. {100 * interval['high']:.1f}"


def ends(interval: dict[str, float]) -> str:
    """The ends of an interval as they are."""
    return f"{interval['low']:.2f} .. {interval['high']:.2f}"
