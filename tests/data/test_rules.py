"""Labels recomputed by hand from the digits that were placed."""

import numpy as np
import pytest

from adapcli.data.placement import SEPARATION, SceneSpec
from adapcli.data.rules import RULES
from adapcli.data.scenes import Scenes


def spec_of(rule, max_digits=5):
    return SceneSpec(
        rule=rule, min_digits=1, max_digits=max_digits, grid=3, min_size=9, max_size=18, canvas=48
    )


def tables(rule, blocks=4):
    scenes = Scenes(spec_of(rule), split="tune", seed=7)
    return [scenes.table(block) for block in range(blocks)]


def by_hand(rule, digits):
    """digits: (value, size) of every digit in one scene."""
    values = [value for value, _ in digits]
    return {
        "maximum": max(values),
        "sum": sum(values),
        "sum_mod_10": sum(values) % 10,
        "largest": max(digits, key=lambda digit: digit[1])[0],
        "count": len(values) - 1,
        "count_distinct": len(set(values)) - 1,
        "spread": max(values) - min(values),
    }[rule]


@pytest.mark.parametrize("rule", RULES)
def test_labels_equal_a_recomputation_by_hand(rule):
    for table in tables(rule):
        for row, label in enumerate(table.label):
            shown = table.present[row]
            digits = list(zip(table.values[row][shown], table.sizes[row][shown], strict=True))
            assert label == by_hand(rule, digits)


@pytest.mark.parametrize("rule", RULES)
def test_labels_lie_within_the_classes(rule):
    spec = spec_of(rule)
    labels = np.concatenate([table.label for table in tables(rule)])
    assert labels.min() >= 0
    assert labels.max() < spec.num_classes == len(spec.class_names)


def test_class_names_are_the_numbers_that_the_rule_gives():
    assert spec_of("count", 3).class_names == ["1", "2", "3"]
    assert spec_of("maximum").class_names == [str(digit) for digit in range(10)]
    assert spec_of("sum", 2).class_names[-1] == "18"


@pytest.mark.parametrize("rule", ["maximum", "sum_mod_10", "largest"])
def test_classes_are_balanced(rule):
    labels = np.concatenate([table.label for table in tables(rule, blocks=40)])
    counts = np.bincount(labels, minlength=10)
    expected = len(labels) / 10
    # Chi-squared with 9 degrees of freedom: 33.7 is exceeded once in 10 000.
    assert ((counts - expected) ** 2 / expected).sum() < 33.7


def test_the_number_of_digits_says_nothing_about_the_highest():
    drawn = tables("maximum", blocks=40)
    labels = np.concatenate([table.label for table in drawn])
    counts = np.concatenate([table.present.sum(1) for table in drawn])
    assert abs(np.corrcoef(labels, counts)[0, 1]) < 4 / np.sqrt(len(labels))


def test_the_largest_digit_is_clearly_larger():
    for table in tables("largest"):
        sizes = np.sort(np.where(table.present, table.sizes, 0), axis=1)
        several = table.present.sum(1) > 1
        assert (sizes[several, -1] >= SEPARATION * sizes[several, -2] - 1e-9).all()
