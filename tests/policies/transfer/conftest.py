"""A table whose signals tell how likely an answer is right, so that policies have something to decide."""

import numpy as np
import pytest


def build_telling(make_table, n=2000, *, seed=0, shift=0.0, **changed):
    """shift: added to the first signal and feature, as data of another kind would."""
    rng = np.random.default_rng(seed + 1000)
    table = make_table(n, seed=seed)
    noise = rng.random((*table.score.shape, 2), np.float32)
    signals = np.clip(0.6 * table.score[..., None] + 0.4 * noise, 0, 1)
    signals[..., 0] = np.clip(signals[..., 0] + shift, 0, 1)
    features = table.features + np.array([shift, 0, 0], np.float32)
    return make_table(n, seed=seed, **({"signals": signals, "features": features} | changed))


@pytest.fixture
def telling(make_table):
    return lambda *given, **options: build_telling(make_table, *given, **options)
