"""Whole trade-offs instead of single points: curves of policies, what they save, what gap they close.

Every interval here is over samples, drawn with replacement: it is conditional on the pool from which the
split was made (the scans that its scenes are put together from), on the model and, for learners, on the seed.
"""

from policies.curves.curve import Curve, curve_of, members_of, parameter
from policies.curves.draws import RESAMPLES, Resampling, interval
from policies.curves.gap import DROPS, GAP_DROPS, PRICES, Worth, Yardstick, mean_of

__all__ = [
    "DROPS",
    "GAP_DROPS",
    "PRICES",
    "RESAMPLES",
    "Curve",
    "Resampling",
    "Worth",
    "Yardstick",
    "curve_of",
    "interval",
    "mean_of",
    "members_of",
    "parameter",
]
