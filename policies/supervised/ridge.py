"""Ridge regression of every configuration's score at once, in closed form."""

import numpy as np
import numpy.typing as npt

from policies.network import Network

Floats = npt.NDArray[np.float64]

STRENGTHS = tuple(np.geomspace(1e-3, 1e2, 11).tolist())


def ridge(x: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> Network:
    """A network of one layer, from standardised features x (n, F) and scores (n, C).

    One penalty for all, the best of `STRENGTHS` (times n) by generalised cross-validation (Golub, Heath and
    Wahba 1979).
    """
    n, mean = len(x), scores.mean(axis=0, dtype=np.float64)
    centre = x.mean(axis=0, dtype=np.float64)
    features = x.astype(np.float64) - centre
    values, vectors = np.linalg.eigh(features.T @ features / n)
    values = np.maximum(values, 0.0)
    moments = vectors.T @ (features.T @ scores) / n  # features are centred, so scores need not be
    total = float(scores.astype(np.float64).var(axis=0).sum())
    strength = min(STRENGTHS, key=lambda a: _cross_validated(values, moments, total, n, a))
    weight = (vectors @ (moments / (values + strength)[:, None])).T
    return Network((weight,), (mean - weight @ centre,))


def _cross_validated(values: Floats, moments: Floats, total: float, n: int, strength: float) -> float:
    """Residual variance over (1 - degrees of freedom / n)^2, summed over configurations."""
    shrunk = values / (values + strength)
    explained = ((2 - shrunk) * shrunk / np.where(values > 0, values, 1.0)) @ (moments**2).sum(axis=1)
    degrees = 1 + shrunk.sum()
    return float((total - explained) / max(1 - degrees / n, 1e-9) ** 2)
