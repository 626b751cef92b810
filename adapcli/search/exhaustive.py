"""Every configuration was scored already, so looking at all of them costs less than sampling a few."""

from adapcli.search.landscape import Landscape
from adapcli.search.objectives import Objective, resolved
from adapcli.search.result import SearchResult, assemble
from adapcli.search.target import Target
from policies.table import OutcomeTable


def exhaustive(
    table: OutcomeTable, target: Target | None = None, *, objective: str | Objective = "flops"
) -> SearchResult:
    """The front of the whole table, and the choice if there is a target.

    Chosen on the calibration split, reported on the test split. Raises InfeasibleError, telling the feasible
    range, if nothing meets the target, and FileError if a split is empty.
    """
    landscape = Landscape.of(table, resolved(objective, table))
    return assemble(landscape, landscape.eligible, target or Target())
