"""From class logits to what a table stores of them: the one home of `signals`.

K classes; leading axes are free.
"""

from dataclasses import dataclass
from math import exp

import torch
from torch import Tensor

SIGNAL_NAMES = ("confidence", "margin", "entropy", "log_odds")
"""confidence: largest probability; margin: lead over the second; entropy in nats; log_odds of the answer."""

MAX_LOG_ODDS = 80.0
"""Beyond this, float32 cannot tell what the other classes have."""

FAR_BELOW = 1e30
"""The difference of two finite logits may overflow; this keeps it finite."""


@dataclass(frozen=True)
class Outcomes:
    """Answers to samples of known class: prediction int64, hit (0 or 1), nll in nats, signals (..., S)."""

    prediction: Tensor
    hit: Tensor
    nll: Tensor
    signals: Tensor


def signals(logits: Tensor) -> Tensor:
    """What an answer says about itself: (..., K) -> (..., S), in the order of SIGNAL_NAMES.

    log_odds tells sure from very sure where the confidence has rounded to 1. Computed in float32 at least.
    """
    return _Softmax.of(logits).signals()


def outcomes(logits: Tensor, targets: Tensor) -> Outcomes:
    """Score logits (..., K) against classes (...); the leading axes broadcast. Ties go to the first class."""
    softmax = _Softmax.of(logits)
    targets = targets.expand(logits.shape[:-1])
    nll = softmax.total.log() - softmax.below.gather(-1, targets[..., None])[..., 0]
    return Outcomes(softmax.top, (softmax.top == targets).float(), nll, softmax.signals())


@dataclass(frozen=True)
class _Softmax:
    """One exponential, from which everything follows.

    top (...): the answer; below (..., K): logits less their maximum; others (..., K): exp(below), 0 for the
    answer; rest (...): their sum, so that probabilities near 1 keep their digits; total (...) = 1 + rest.
    """

    top: Tensor
    below: Tensor
    others: Tensor
    rest: Tensor
    total: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> "_Softmax":
        logits = logits if logits.dtype == torch.float64 else logits.float()
        highest, top = logits.max(-1, keepdim=True)
        below = (logits - highest).clamp_min(-FAR_BELOW)
        others = below.exp().scatter_(-1, top, 0.0)
        rest = others.sum(-1)
        return cls(top[..., 0], below, others, rest, 1 + rest)

    def signals(self) -> Tensor:
        confidence = 1 / self.total
        margin = (1 - self.others.amax(-1)) * confidence
        entropy = self.total.log() - (self.others * self.below).sum(-1) * confidence
        log_odds = -self.rest.clamp_min(exp(-MAX_LOG_ODDS)).log()
        return torch.stack((confidence, margin, entropy, log_odds), -1)
