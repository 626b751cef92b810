"""A trained policy's whole trade-off on one split, as one run shows and keeps it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from policies.base import Policy, Trained
from policies.curves.curve import Curve, curve_of, members_of
from policies.curves.draws import RESAMPLES
from policies.curves.gap import Worth, Yardstick
from policies.shown import short_repr
from policies.table import OutcomeTable

SHOWN = 17
"""Members of a family that are measured; more of them move the hull by less than its interval."""


@dataclass(frozen=True, eq=False)
class TradeOff:
    """The curve and what it is worth. chosen: the position in it of the policy that was chosen."""

    __repr__ = short_repr

    yardstick: Yardstick
    curve: Curve
    worth: Worth
    chosen: int

    def frame(self) -> pd.DataFrame:
        """See `frame`."""
        return frame(self.curve, self.yardstick, self.chosen)

    def to_dict(self) -> dict[str, Any]:
        """gap, savings and utility with their intervals, and what they are of; for JSON."""
        return {
            "split": self.yardstick.split,
            "n": self.yardstick.n,
            "resamples": self.yardstick.resampling.resamples,
            "members": len(self.curve),
            **self.worth.to_dict(),
        }


def trade_off(
    trained: Trained,
    table: OutcomeTable,
    split: str = "test",
    *,
    at_most: int = SHOWN,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> TradeOff:
    """Measure at most so many members of the family. FileError if the split is empty."""
    yardstick = Yardstick.of(table, split, resamples=resamples, seed=seed)
    members = members_of(trained.family, at_most, trained.policy)
    curve = curve_of(members, table, split, yardstick.resampling, name=trained.policy.name)
    return TradeOff(yardstick, curve, yardstick.worth(curve), chosen_of(members, trained.policy))


def chosen_of(members: list[Policy], policy: Policy) -> int:
    """Position of a policy among members that hold it."""
    return next(i for i, member in enumerate(members) if member is policy)


def frame(curve: Curve, yardstick: Yardstick, chosen: int) -> pd.DataFrame:
    """One row per member, cheapest first, as curve.csv holds it.

    Columns parameter (price or threshold), score with its 95 % interval score_low and score_high, cost_flops,
    cost_share (of the full configuration's), chosen (whether it is the policy that was kept).
    """
    draws = curve.score[1:] if len(curve.score) > 1 else curve.score
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    found = pd.DataFrame(
        {
            "parameter": curve.parameters,
            "score": curve.score[0],
            "score_low": low,
            "score_high": high,
            "cost_flops": curve.cost_flops[0],
            "cost_share": curve.cost_flops[0] / yardstick.full_cost_flops,
            "chosen": np.arange(len(curve)) == chosen,
        }
    )
    return found.sort_values("cost_flops", kind="stable", ignore_index=True)
