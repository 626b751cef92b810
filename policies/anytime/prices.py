"""The prices at which anytime policies are made."""

from policies.base import split_rows
from policies.encoding import Prices
from policies.objective import Objective
from policies.table import OutcomeTable

LOWEST = 2e-3
"""A fifth of a point for a whole run: below this, the last tenth of a point cannot be told from noise."""


def price_range(table: OutcomeTable, objective: Objective) -> Prices:
    """From where nearly nothing is given up to where the static hull ends; holds the objective's price."""
    found = Prices.of(table, split_rows(table, "fit"))
    wide = Prices(min(found.low, LOWEST), max(found.high, 2 * LOWEST))
    return wide if objective.lambda_ is None else wide.reaching(objective.lambda_)
