"""Pools of scans share nothing."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from adapcli.data.scans import POOL_SHARES, POOLS, _digits, load_scans, split_indices


def test_every_scan_is_in_exactly_one_pool():
    indices = np.concatenate([split_indices()[pool] for pool in POOLS])
    assert sorted(indices) == list(range(1797))
    assert tuple(len(split_indices()[pool]) for pool in POOLS) == POOL_SHARES


@pytest.mark.parametrize(("one", "other"), list(combinations(POOLS, 2)))
def test_no_scan_crosses_not_even_as_an_equal_picture(one, other):
    pictures = [{glyph.tobytes() for glyph in load_scans(pool).glyphs[:, 0]} for pool in (one, other)]
    assert pictures[0].isdisjoint(pictures[1])


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_is_stratified_and_ordered_by_class(pool):
    scans, target = load_scans(pool), load_digits().target
    for label in range(10):
        members = scans.indices[scans.starts[label] : scans.starts[label] + scans.counts[label]]
        assert set(target[members]) == {label}
        assert len(members) == pytest.approx(len(scans.indices) * np.mean(target == label), abs=1)


def test_glyphs_are_the_scans_of_load_digits():
    images, target = _digits()
    np.testing.assert_array_equal(images * 16, load_digits().images)
    np.testing.assert_array_equal(target, load_digits().target)
    scans = load_scans("test")
    np.testing.assert_array_equal(scans.glyphs[:, 0] * 16, load_digits().images[scans.indices])


def test_distorted_copies_resemble_their_scan_more_than_others():
    plain, augmented = load_scans("train"), load_scans("train", augment=True)
    np.testing.assert_array_equal(augmented.glyphs[:, 0], plain.glyphs[:, 0])
    assert augmented.glyphs.min() >= 0
    assert augmented.glyphs.max() <= 1
    originals = plain.glyphs[:200, 0].reshape(200, 64)
    copies = augmented.glyphs[:200, 1:].reshape(200, -1, 64)
    own = np.linalg.norm(copies - originals[:, None], axis=2)
    others = np.linalg.norm(copies - np.roll(originals, 100, axis=0)[:, None], axis=2)
    assert (own < others).mean() > 0.95
    assert (own > 0).all()


def test_the_split_is_the_same_on_every_machine():
    assert split_indices()["test"][:5].tolist() == [855, 1187, 1177, 1703, 701]
    assert int(split_indices()["train"].sum()) == 893286
