"""Calibration error against torchmetrics and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error

from adapcli.errors import UsageError
from adapcli.evaluation.calibration import calibration_error, reliability


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.integers(2, 20), st.integers(0, 1000))
def test_equals_torchmetrics(n, bins, seed):
    rng = np.random.default_rng(seed)
    confidence, hit = rng.random(n, np.float32), rng.integers(0, 2, n)
    expected = binary_calibration_error(torch.from_numpy(confidence), torch.from_numpy(hit), n_bins=bins)
    assert calibration_error(confidence, hit, bins=bins) == pytest.approx(float(expected), abs=1e-5)


def test_reliability_by_hand():
    found = reliability([0.0, 0.2, 0.5, 1.0], [0, 1, 1, 1], bins=2)
    assert found.count.tolist() == [3, 1]
    assert found.confidence.tolist() == pytest.approx([0.7 / 3, 1.0])
    assert found.accuracy.tolist() == pytest.approx([2 / 3, 1.0])


def test_a_perfectly_calibrated_model_has_no_error():
    confidence = np.repeat([0.25, 0.75], 4)
    assert calibration_error(confidence, [1, 0, 0, 0, 1, 1, 1, 0]) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("confidence", "hit"), [([], []), ([1.5], [1]), ([0.5, float("nan")], [1, 0]), ([0.5], [1, 1])]
)
def test_refuses(confidence, hit):
    with pytest.raises(UsageError):
        calibration_error(confidence, hit)
