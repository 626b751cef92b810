"""Whole trade-offs instead of single points: curves of policies, what they save, what gap they close.

Every interval here is over samples, drawn with replacement: it is conditional on the pool from which the
split was made (the scans that its scenes are put together from), on the model and, for learners, on the seed.
"""

from policies.curves.curve import Curve, curve_of, members_of, parameter
from policies.curves.draws import RESAMPLES, Resampling, interval
from policies.curves.gap import DROPS, GAP_DROPS, PRICES, Worth, Yardstick, mean_of, told
from policies.curves.tradeoff import TradeOff, chosen_of, frame, trade_off

__all__ = [
    "DROPS",
    "GAP_DROPS",
    "PRICES",
    "RESAMPLES",
    "Curve",
    "Resampling",
    "TradeOff",
    "Worth",
    "Yardstick",
    "chosen_of",
    "curve_of",
    "frame",
    "interval",
    "mean_of",
    "members_of",
    "parameter",
    "told",
    "trade_off",
]
