"""Scenes: any range, the same bits; difficulty that varies; bad specifications refused."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapcli.data.scans import load_scans
from adapcli.data.scenes import BLOCK, SPLITS, Scenes, SceneSpec
from adapcli.errors import UsageError

# Every field is given, so that other defaults change no test.
SMALL = SceneSpec(
    canvas=24,
    min_digits=1,
    max_digits=4,
    min_size=8,
    max_size=11,
    aspect=0.15,
    grid=2,
    jitter=0.25,
    clutter=2,
    noise=(0.02, 0.2),
    contrast=(0.4, 1.0),
    coupling=0.5,
    rule="maximum",
)


@pytest.fixture(scope="module")
def scenes():
    return Scenes(SMALL, split="test", seed=3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3 * BLOCK), st.lists(st.integers(1, 300), min_size=1, max_size=4))
def test_any_cut_of_a_range_gives_the_same_bits(start, lengths):
    edges = np.cumsum([start, *lengths]).tolist()
    whole = Scenes(SMALL, split="test", seed=3).batch(edges[0], edges[-1], ("class", "mask", "depth"))
    other = Scenes(SMALL, split="test", seed=3)
    pairs = list(itertools.pairwise(edges))
    # Last range first: what was asked before must not matter.
    parts = [other.batch(a, b, ("class", "mask", "depth")) for a, b in reversed(pairs)][::-1]
    for name in ("images", "labels", "mask", "depth"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))


def test_masks_and_depth_do_not_change_the_images(scenes):
    plain, full = scenes.batch(0, 50), scenes.batch(0, 50, ("class", "mask", "depth"))
    assert torch.equal(plain.images, full.images)
    assert plain.mask is None
    assert plain.depth is None


def test_what_a_caller_does_to_a_batch_stays_with_him(scenes):
    before = scenes.batch(0, 8).images.clone()
    scenes.batch(0, 8).images.zero_()
    assert torch.equal(scenes.batch(0, 8).images, before)


def test_shapes_types_and_ranges(scenes):
    batch = scenes.batch(5, 15, ("class", "mask", "depth"))
    assert batch.images.shape == (10, 1, 24, 24)
    assert batch.images.dtype == batch.depth.dtype == torch.float32
    assert batch.labels.dtype == batch.mask.dtype == torch.int64
    assert batch.images.min() >= 0
    assert batch.images.max() <= 1
    assert batch.mask.shape == (10, 24, 24)
    assert batch.depth.shape == (10, 1, 24, 24)


@pytest.mark.parametrize("change", [{"seed": 4}, {"split": "calibration"}, {"split": "train"}])
def test_another_seed_or_split_gives_other_scenes(scenes, change):
    other = Scenes(SMALL, **({"split": "test", "seed": 3} | change))
    assert not torch.equal(other.batch(0, 20).images, scenes.batch(0, 20).images)


def test_fit_and_tune_draw_other_scenes_from_the_same_scans():
    fit, tune = (Scenes(SMALL, split=split) for split in ("fit", "tune"))
    assert fit.scans is tune.scans
    assert not torch.equal(fit.batch(0, 20).images, tune.batch(0, 20).images)


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_of_a_split_show_scans_of_its_pool_alone(split):
    scenes = Scenes(SMALL, split=split)
    allowed = set(load_scans(SPLITS[split][0]).indices)
    copies = scenes.scans.glyphs.shape[1]
    shown = [scenes.table(block) for block in range(8)]
    used = np.concatenate([np.r_[t.digits.glyph.ravel(), t.fragments.glyph.ravel()] for t in shown]) // copies
    assert set(scenes.scans.indices[used]) <= allowed
    assert (copies > 1) == (split == "train")


def test_a_placed_scan_shows_the_digit_that_the_table_says():
    from sklearn.datasets import load_digits

    scenes = Scenes(SMALL, split="train")
    table = scenes.table(0)
    scan = scenes.scans.indices[table.digits.glyph // scenes.scans.glyphs.shape[1]]
    np.testing.assert_array_equal(load_digits().target[scan], table.values)


def test_digits_sit_in_distinct_cells_and_inside_the_canvas():
    scenes = Scenes(replace(SMALL, jitter=0.0, canvas=48, grid=4), split="test")
    table = scenes.table(0)
    cells = (table.digits.centre // 12).astype(int)
    for row in range(BLOCK):
        shown = cells[row][table.present[row]]
        assert len({tuple(cell) for cell in shown}) == len(shown)
    jittered = Scenes(replace(SMALL, jitter=1.0), split="test").table(0).digits
    assert (jittered.centre - jittered.extent / 2 >= -1e-9).all()
    assert (jittered.centre + jittered.extent / 2 <= 24 + 1e-9).all()


def test_difficulty_varies_and_is_recorded(scenes):
    record = scenes.difficulty(10, 700)
    assert {"digits", "mean_size", "faintest_contrast", "fragments", "noise_sigma", "hardness"} <= set(record)
    for name, values in record.items():
        assert values.shape == (690,)
        assert len(np.unique(values)) > 1, name
    table = scenes.table(0)
    np.testing.assert_array_equal(record["digits"][:200], table.present[10:210].sum(1))
    assert set(record["digits"]) == {1, 2, 3, 4}
    assert set(record["fragments"]) == {0, 1, 2}


@pytest.mark.parametrize(("coupling", "low", "high"), [(0.0, -0.1, 0.1), (1.0, 0.9, 1.0)])
def test_coupling_ties_the_factors_of_difficulty_together(coupling, low, high):
    record = Scenes(replace(SMALL, coupling=coupling), split="test").difficulty(0, 2048)
    assert low < np.corrcoef(record["digits"], record["noise_sigma"])[0, 1] < high


def test_noise_has_the_recorded_strength():
    spec = replace(SMALL, noise=(0.1, 0.1), clutter=0)
    noisy = Scenes(spec, split="test").batch(0, 500, ("class", "mask"))
    clean = Scenes(replace(spec, noise=(0.0, 0.0)), split="test").batch(0, 500, ("class",))
    # Where the picture is mid-grey, neither end clips.
    middle = (clean.images > 0.45) & (clean.images < 0.55)
    assert (noisy.images - clean.images)[middle].std().item() == pytest.approx(0.1, rel=0.1)


def test_no_clutter_and_a_single_digit_work():
    batch = Scenes(replace(SMALL, max_digits=1, clutter=0, grid=1), split="test").batch(0, 10)
    assert batch.images.shape == (10, 1, 24, 24)


def test_another_canvas_shows_the_same_scenes():
    small, large = (Scenes(SMALL.at(side), split="test").table(0) for side in (24, 72))
    np.testing.assert_array_equal(small.label, large.label)
    np.testing.assert_allclose(small.digits.centre * 3, large.digits.centre)


@pytest.mark.parametrize(
    "change",
    [
        {"canvas": 4},
        {"min_digits": 0},
        {"max_digits": 5},
        {"min_digits": 3, "max_digits": 2},
        {"min_size": 0.5},
        {"max_size": 25.0},
        {"max_size": float("nan")},
        {"min_size": 3.0, "max_size": 16.0},
        {"noise": (0.3, 0.2)},
        {"contrast": (0.0, 1.0)},
        {"coupling": 1.5},
        {"clutter": -1},
        {"rule": "median"},
        {"rule": "largest", "min_size": 10.0},
    ],
)
def test_a_specification_out_of_range_is_refused(change):
    with pytest.raises(UsageError, match="scene specification"):
        replace(SMALL, **change)


def test_a_specification_survives_json():
    import json

    spec = replace(SMALL, noise=(0.0, 0.1))
    assert SceneSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    with pytest.raises(UsageError, match="colour"):
        SceneSpec.from_dict({"colour": 3})


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (5, 2)])
def test_an_impossible_range_is_refused(scenes, start, stop):
    with pytest.raises(UsageError, match="expected 0 <= start < stop"):
        scenes.batch(start, stop)


def test_unknown_split_target_or_seed_is_refused(scenes):
    with pytest.raises(UsageError, match="split"):
        Scenes(SMALL, split="validation")
    with pytest.raises(UsageError, match="seed"):
        Scenes(SMALL, split="test", seed=-1)
    with pytest.raises(UsageError, match="target"):
        scenes.batch(0, 1, ("boxes",))
