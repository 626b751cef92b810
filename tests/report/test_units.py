import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapcli.report import units
from adapcli.report.units import CostUnit
from policies.statistics import Interval
from policies.texts import significant


@pytest.mark.parametrize(
    ("dearest", "text"),
    [
        (76.38e9, "76.4 GFLOPs"),
        (8.2e6, "8.20 MFLOPs"),
        (999.0, "999 FLOPs"),
        (1e12, "1.00 TFLOPs"),
        (4608, "4.61 kFLOPs"),
    ],
)
def test_the_unit_suits_the_dearest(dearest, text):
    assert CostUnit.of([1.0, dearest]).text(dearest) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8312, "83.1 %"),
        (1.0, "100.0 %"),
        (0.0, "0.0 %"),
        (-0.25, "−25.0 %"),
        (math.inf, "–"),
        (math.nan, "–"),
    ],
)
def test_percent(value, text):
    assert units.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.012, "+1.2"), (-0.012, "−1.2"), (0.0, "0.0"), (-0.0001, "0.0"), (math.nan, "–")]
)
def test_points_are_signed_unless_zero(value, text):
    assert units.points(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.42, "0.42"), (1.0, "1.00"), (0.0643, "0.0643"), (0.00123, "0.00123"), (0, "0.00")]
)
def test_a_part_has_three_digits_where_two_decimals_say_little(value, text):
    assert units.part(value) == text


def test_large_numbers_are_written_out():
    assert [significant(value, 4) for value in (15561.2, 3017.4, 17.0, 0.5)] == [
        *("15561", "3017", "17.00", "0.5000")
    ]


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_number_becomes_nan_or_inf_or_an_exponent_of_ordinary_size(value):
    texts = [units.significant(value), units.percent(value), units.points(value), units.part(value)]
    texts.append(CostUnit.of([1e9]).text(value))
    assert not any(word in text.lower() for text in texts for word in ("nan", "inf"))
    if 1e-6 < abs(value) < 1e15:
        assert all("e" not in text.lower().replace("flops", "") for text in texts)


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_significant_digits_are_those_of_the_value(value):
    assert float(units.significant(value, 3)) == pytest.approx(value, rel=5.1e-3)


def test_an_interval_without_ends_has_no_text():
    assert units.span(Interval(0.5, -math.inf, math.inf)) == ""
    assert units.span(Interval(0.5, 0.4, 0.61)) == "40.0 to 61.0"
    assert units.half_width(Interval(0.5, 0.4, 0.6)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.42, "0.4 s"), (45.2, "45 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds, text):
    assert units.duration(seconds) == text
