"""How many samples are needed, against simulation and against the table found by experiments."""

import numpy as np
import pytest

from policies.guarantee.bounds import Bounds
from policies.guarantee.exact import trinomial_p_value
from policies.guarantee.planning import needed, power_of

# Thousands of calibration samples for 80 % power, for a true drop of 0 and of half the limit, found by
# experiment (November 2026): disagreement -> limit -> both.
MEASURED = {
    0.005: {0.001: (41, 145), 0.005: (2.6, 8.3), 0.01: (1.0, 2.7)},
    0.01: {0.001: (72, 244), 0.005: (4.0, 12), 0.01: (1.3, 4.1)},
    0.02: {0.001: (145, 531), 0.005: (6.7, 22), 0.01: (2.0, 6.4)},
    0.04: {0.001: (277, 1200), 0.005: (13, 41), 0.01: (3.5, 12)},
}


@pytest.mark.parametrize("disagreement", MEASURED)
def test_as_many_as_the_experiments_took(disagreement):
    for limit, (none, half) in MEASURED[disagreement].items():
        assert needed(limit, 0, disagreement) == pytest.approx(1000 * none, rel=0.25)
        assert needed(limit, limit / 2, disagreement) == pytest.approx(1000 * half, rel=0.25)


@pytest.mark.parametrize(
    ("loss", "disagreement", "limit"), [(0, 0.02, 0.01), (0.004, 0.01, 0.01), (0.01, 0.05, 0.03)]
)
def test_the_power_is_that_of_simulated_samples(loss, disagreement, limit):
    n = needed(limit, loss, disagreement)
    rates = [(disagreement + loss) / 2, (disagreement - loss) / 2, 1 - disagreement]
    drawn = np.random.default_rng(0).multinomial(n, rates, size=1500)
    simulated = np.mean([trinomial_p_value(int(a), int(b), n, limit) <= 0.05 for a, b, _ in drawn])
    assert simulated == pytest.approx(0.8, abs=0.05)
    assert power_of(n, limit, loss, disagreement, 0.95) == pytest.approx(simulated, abs=0.04)


def test_other_kinds_of_losses():
    n = needed(0.01, 0.005, 0.005, kind="binomial")
    rng = np.random.default_rng(0)
    bounds = Bounds("binomial", 0.95)
    passed = [bounds.p_value((rng.random(n) < 0.005).astype(float), 0.01) <= 0.05 for _ in range(600)]
    assert np.mean(passed) == pytest.approx(0.8, abs=0.06)
    graded = needed(0.02, 0.005, 0.02, kind="betting")
    betting = Bounds("betting", 0.95)
    losses = (rng.choice([-1.0, 0, 1], graded, p=[0.0075, 0.98, 0.0125]) for _ in range(60))
    assert np.mean([betting.p_value(one, 0.02) <= 0.05 for one in losses]) >= 0.6


def test_what_no_number_can_show():
    assert needed(0.005, 0.005, 0.02) is None
    assert needed(0.005, 0.006, 0.02) is None
    assert needed(0.005, 0.00499999, 0.3) is None
    assert needed(0.005, 0, 0) < needed(0.005, 0, 0.01) < needed(0.001, 0, 0.01)
    assert needed(0.005, 0, 0.01) < needed(0.005, 0, 0.01, confidence=0.99)
