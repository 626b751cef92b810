"""A test of the mean of graded losses in [-1, 1], valid for every n and every distribution.

Who bets a share s of what they have against the loss multiplies it by 1 + s (limit - loss) / (1 - limit) with
each sample. If the mean loss is `limit` or more nobody gains on average, whatever the share, so that having w
times the stake at the end has probability 1 / w at most (Markov).
"""

import math

import numpy as np

from policies.base import FloatArray

STAKES = np.geomspace(1 / 512, 1.0, 37)
"""The shares of a bet, one purse each; equal stakes."""


def betting_p_value(losses: FloatArray, limit: float) -> float:
    """P-value of "the mean loss is `limit` or more"; losses (n,) in [-1, 1], limit in [-1, 1].

    The mean of many constant bets ("diversified Kelly", Waudby-Smith and Ramdas 2024). Nothing depends on
    the order of the samples, and the p-value falls as the limit rises or a loss falls.
    """
    gains = (limit - losses) / max(1 - limit, 1e-12)
    with np.errstate(divide="ignore"):  # the largest bet may lose everything: log 0
        purses = np.array([np.log1p(stake * gains).sum() for stake in STAKES])
    best = float(purses.max())
    wealth = best + float(np.log(np.exp(purses - best).mean()))
    return math.exp(-max(0.0, wealth))
