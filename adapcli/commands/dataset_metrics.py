"""Metrics of a whole data set, mIoU or RMSE, beside the mean scores that search and policies go by."""

from typing import TYPE_CHECKING, Any

from adapcli.console import Console

if TYPE_CHECKING:
    from adapcli.report.whole import Decided
    from policies.table import OutcomeTable


def show_metrics(console: Console, table: "OutcomeTable", decided: "Decided") -> dict[str, Any]:
    """A table of them on the test samples, and the same for JSON; nothing where the table keeps none."""
    from adapcli.report import whole

    if not whole.names(table):
        return {}
    frame = whole.measured(table, decided)
    console.table(
        ["", *whole.names(table)],
        [[name, *whole.cells(frame, name)] for name in decided],
        title=f"over all {len(table.rows('test'))} test samples, with 95 % intervals",
    )
    return {"dataset_metrics": frame.to_dict(orient="records")}
