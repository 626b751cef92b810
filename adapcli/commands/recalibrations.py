"""The recalibration that a command was asked to use, and what one brought, in words."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from adapcli.model.perceiver import AdaPerceiver
    from adapcli.space import Configuration
    from policies.grid import Grid
    from policies.table import OutcomeTable
    from policies.table.recalibration import Recalibration

Place = Annotated[
    Path | None,
    typer.Option("--calibration", metavar="RUN|POLICY", help="The calibration of this run or policy."),
]


def open_calibrated(place: Path, model: "AdaPerceiver") -> "Grid":
    """The grid of a run's table, or of a policy, at `place`, with its recalibration.

    FileError if there is none, if it is damaged, or if it was made with another checkpoint.
    """
    from adapcli.errors import FileError
    from adapcli.sweep.fingerprints import checkpoint_fingerprint

    grid = _grid(place)
    if grid.recalibration is None:
        raise FileError(f"{place}: not calibrated", "`adap sweep --calibrate` makes a table that is")
    made_for, found = grid.fingerprints.get("checkpoint"), checkpoint_fingerprint(model)
    if made_for != found:
        raise FileError(
            f"{place}: calibrated for another checkpoint: {made_for or 'unknown'}, this is {found}",
            "give that one with --ckpt",
        )
    return grid


def _grid(place: Path) -> "Grid":
    from policies import registry
    from policies.grid import Grid
    from policies.table import OutcomeTable

    if (place / "policy.json").exists():
        return registry.load(place).grid
    table = place if (place / "meta.json").exists() else place / "table"
    return Grid.of(OutcomeTable.load(table, check=False))


def in_order(grid: "Grid", configurations: "list[Configuration]") -> "Recalibration":
    """The grid's recalibration with the rows that `configurations` need; UsageError if it lacks one."""
    from adapcli.errors import UsageError
    from adapcli.inference.positions import configuration_at
    from policies.table.recalibration import Recalibration

    assert grid.recalibration is not None
    at = {configuration_at(grid, i): i for i in range(len(grid))}
    missing = [c for c in configurations if c not in at]
    if missing:
        raise UsageError(f"{missing[0]}: not calibrated there", "sweep those that are, or --calibrate")
    return Recalibration.from_array(grid.recalibration.array()[[at[c] for c in configurations]])


def brought(table: "OutcomeTable") -> str:
    """One line on what calibration changed; empty if nothing tells."""
    from adapcli.evaluation.effect import Effect

    effect = Effect.of_meta(table.meta, table.n_configs, "outcome table")
    if effect is None:
        return ""
    gains, columns = 100 * effect.gains, effect.columns
    errors = [100 * columns[f"ece_{when}"].mean() for when in ("before", "after")]
    cheapest = int(table.cost_flops.argmin())
    return (
        f"calibration, on {effect.samples} {effect.split} samples: cheapest {gains[cheapest]:+.2f} points, "
        f"full {gains[table.full]:+.2f}, all {gains.min():+.2f} .. {gains.max():+.2f}, "
        f"mean {gains.mean():+.2f}; mean ECE {errors[0]:.1f} -> {errors[1]:.1f} %"
    )
