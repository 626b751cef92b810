"""Fitting a temperature and a bias per class for every configuration, and applying them to logits.

Temperature scaling and vector scaling: Guo et al. 2017, section 4.2, here softmax(z / T + b).

n samples, C configurations, K classes, B batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapcli.evaluation.outcomes import FAR_BELOW
from policies.table.recalibration import Recalibration

SPREADS = (0.0, 0.1, 0.3, 1.0)
"""How large biases are expected to be, in nats; 0: none. Which of these is found on held-out samples."""
FEWEST_PER_CLASS = 10
"""With fewer samples per class than this no biases are fitted: they would be noise."""
SCALES = (0.01, 100.0)
"""1 / temperature stays in between."""
STEPS, CONVERGED = 30, 1e-4
BLOCK_VALUES = 1 << 21
"""Logits that are worked on at once; a few copies of them in double precision are held."""


@dataclass(frozen=True)
class Recalibrated:
    """A recalibration on a device: temperature (C,), bias (C, K)."""

    temperature: Tensor
    bias: Tensor

    @classmethod
    def of(cls, recalibration: Recalibration, device: torch.device) -> "Recalibrated":
        """Copied to the device."""
        temperature, bias = torch.tensor(recalibration.temperature), torch.tensor(recalibration.bias)
        return cls(temperature.to(device), bias.to(device))

    def __call__(self, logits: Tensor, columns: Sequence[int]) -> Tensor:
        """Logits (B, len(columns), K) of these configurations, recalibrated; float32 at least."""
        at = slice(columns[0], columns[0] + 1) if len(columns) == 1 else list(columns)
        exact = logits if logits.dtype == torch.float64 else logits.float()
        return exact / self.temperature[at][:, None] + self.bias[at]


def fit(logits: Tensor, targets: Tensor) -> tuple[Recalibration, float]:
    """The recalibration of logits (n, C, K) that makes targets (n,) likeliest, and the spread it was given.

    Each configuration on its own, by Newton's method; convex. Biases are held back as if they were drawn with
    a deviation of `spread`, one of SPREADS for all of these configurations: that which, fitted on half of the
    samples, gives the others the smallest mean negative log-likelihood. If nothing does better than the
    logits as they are, they stay as they are.
    """
    blocks = _blocks(logits)
    halves = [_gains(part[::2], targets[::2], part[1::2], targets[1::2]) for part in blocks]
    gains = np.sum(halves, axis=0)  # of each spread over leaving everything as it is
    best = int(gains.argmax())
    if not gains[best] > 0:
        return Recalibration.identity(*logits.shape[1:]), 0.0
    spread = _allowed(len(logits), logits.shape[2])[best]
    found = [_newton(part, targets, spread) for part in blocks]
    scale = torch.cat([part.scale for part in found])
    bias = torch.cat([part.bias for part in found])
    return Recalibration((1 / scale).numpy(), bias.numpy()), spread


class Fitted(NamedTuple):
    """scale (c,): 1 / temperature; bias (c, K)."""

    scale: Tensor
    bias: Tensor


def _allowed(n: int, classes: int) -> tuple[float, ...]:
    return SPREADS if n >= FEWEST_PER_CLASS * classes else SPREADS[:1]


def _blocks(logits: Tensor) -> tuple[Tensor, ...]:
    n, _, classes = logits.shape
    return torch.split(logits, max(1, BLOCK_VALUES // (n * classes)), dim=1)


def _gains(logits: Tensor, targets: Tensor, held: Tensor, held_targets: Tensor) -> np.ndarray:
    """What each spread gains in log-likelihood on the samples held out, summed over configurations."""
    if not len(held):
        return np.zeros(1)
    judge = _Likelihood(held, held_targets)
    found, start = [], _identity(judge.z)
    as_is = judge.loss(start)
    for spread in _allowed(len(logits) + len(held), logits.shape[2]):
        start = _newton(logits, targets, spread, start)
        found.append(float((as_is - judge.loss(start)).sum()))
    return np.array(found)


def _identity(z: Tensor) -> Fitted:
    return Fitted(z.new_ones(len(z)), z.new_zeros(len(z), z.shape[2]))


def _newton(logits: Tensor, targets: Tensor, spread: float, start: Fitted | None = None) -> Fitted:
    """Damped Newton steps from `start`, from what changes nothing by default; the loss never rises."""
    objective = _Likelihood(logits, targets, spread)
    at = _identity(objective.z) if start is None else start
    here, damping = objective.expand(at), torch.ones(len(at.scale), dtype=torch.float64)
    for _ in range(STEPS):
        move = torch.linalg.solve(here.hessian, here.gradient) * damping[:, None]
        tried = Fitted((at.scale - move[:, 0]).clamp(*SCALES), at.bias.clone())
        tried.bias[:, : move.shape[1] - 1] -= move[:, 1:]
        there = objective.expand(tried)
        better = there.loss <= here.loss
        at = Fitted(*(_where(better, new, old) for new, old in zip(tried, at, strict=True)))
        here = _Expansion(*(_where(better, new, old) for new, old in zip(there, here, strict=True)))
        damping = torch.where(better, (2 * damping).clamp_max(1.0), damping / 4)
        if move.abs().max() < CONVERGED:
            break
    return at


def _where(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(mask.view(-1, *[1] * (new.ndim - 1)), new, old)


class _Expansion(NamedTuple):
    """Of a loss at a point, to second order: loss (c,), gradient (c, P), hessian (c, P, P); scale first."""

    loss: Tensor
    gradient: Tensor
    hessian: Tensor


class _Likelihood:
    """Negative log-likelihood of targets, summed over samples, and what holds scale and bias back.

    z (c, n, K) float64: logits less the largest of each answer, since a constant changes nothing.
    """

    def __init__(self, logits: Tensor, targets: Tensor, spread: float = 0.0) -> None:
        z = logits.transpose(0, 1).double()
        self.z = (z - z.amax(-1, keepdim=True)).clamp_min(-FAR_BELOW)
        self.targets, self.spread = targets, spread
        self.right = self.z.gather(-1, targets.expand(len(self.z), -1)[..., None])[..., 0].sum(1)
        self.counts = torch.bincount(targets, minlength=logits.shape[2]).double()

    def loss(self, at: Fitted) -> Tensor:
        """(c,), without what holds back."""
        total = (self.z * at.scale[:, None, None] + at.bias[:, None]).logsumexp(-1).sum(1)
        return total - at.scale * self.right - at.bias @ self.counts

    def expand(self, at: Fitted) -> _Expansion:
        """With what holds back: half the squared distance of the scale from 1, and of the bias from 0."""
        changed = self.z * at.scale[:, None, None] + at.bias[:, None]
        total = changed.logsumexp(-1)
        p = (changed - total[..., None]).exp()
        mean = (p * self.z).sum(-1)
        loss = total.sum(1) - at.scale * self.right - at.bias @ self.counts
        gradient = mean.sum(1) - self.right + (at.scale - 1)
        curvature = ((p * self.z * self.z).sum((1, 2)) - (mean * mean).sum(1)) + 1
        loss = loss + (at.scale - 1) ** 2 / 2
        if not self.spread:
            return _Expansion(loss, gradient[:, None], curvature[:, None, None])
        weight, expected = self.spread**-2, p.sum(1)
        loss = loss + weight * (at.bias**2).sum(1) / 2
        mixed = (p * (self.z - mean[..., None])).sum(1)
        square = torch.diag_embed(expected + weight) - p.transpose(1, 2) @ p
        upper = torch.cat([curvature[:, None], mixed], 1)[:, None]
        hessian = torch.cat([upper, torch.cat([mixed[..., None], square], 2)], 1)
        slopes = expected - self.counts + weight * at.bias
        return _Expansion(loss, torch.cat([gradient[:, None], slopes], 1), hessian)
