"""The prices at which anytime policies are made."""

import numpy as np

from policies.base import split_rows
from policies.encoding import Prices
from policies.objective import Objective
from policies.table import OutcomeTable

LOWEST = 2e-3
"""A fifth of a point for a whole run: below this, the last tenth of a point cannot be told from noise."""
USUAL_DROP = 0.05
GRID = 200


def price_range(table: OutcomeTable, objective: Objective) -> Prices:
    """From where nearly nothing is given up to where the static hull ends; holds the objective's price."""
    found = Prices.of(table, split_rows(table, "fit"))
    wide = Prices(min(found.low, LOWEST), max(found.high, 2 * LOWEST))
    return wide if objective.lambda_ is None else wide.reaching(objective.lambda_)


def learned_range(table: OutcomeTable, objective: Objective, prices: Prices) -> Prices:
    """The part of `prices` that one network learns: up to where the best static choice loses 5 points.

    Further up where the objective allows more, or asks for less cost. One network over all prices spends
    itself where nobody buys (measured on the packaged digits: 0.58 to 0.91 of the gain of backward induction
    at usual prices, against 0.96). Beyond its end the network decides as at its end.
    """
    means = table.score[split_rows(table, "fit")].mean(axis=0, dtype=np.float64)
    share = table.cost_flops / table.cost_flops[table.full]
    tried = prices.grid(GRID)
    best = (means - tried[:, None] * share).argmax(axis=1)
    most = max(USUAL_DROP, 2 * (objective.max_drop or 0.0), 2 * (objective.same_answer or 0.0))
    beyond = means[best] < means[table.full] - most
    if objective.flops_target is not None:
        beyond &= share[best] <= objective.flops_target
    high = float(tried[beyond].min(initial=prices.high))
    usual = Prices(prices.low, max(high, 2 * prices.low))
    return usual if objective.lambda_ is None else usual.reaching(objective.lambda_)
