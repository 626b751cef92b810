"""The quick renderer equals loops over pixels, and masks and depth say what the image shows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapcli.data.placement import BLOCK
from adapcli.data.rendering import FAR_M, INK, NEAR_M, interpolation, piece_masks, render
from adapcli.data.scenes import Scenes, SceneSpec

SPEC = SceneSpec(
    canvas=20, min_size=7, max_size=12, max_digits=4, grid=2, clutter=2, jitter=0.5, rule="maximum"
)
ALL = ("class", "mask", "depth")


def sample(glyph, place):
    """Bilinear by the book: the four neighbours of (row, column), nothing outside the scan."""
    row, column = (int(np.floor(p)) for p in place)
    value = 0.0
    for r in (row, row + 1):
        for c in (column, column + 1):
            if 0 <= r < 8 and 0 <= c < 8:
                value += glyph[r, c] * (1 - abs(place[0] - r)) * (1 - abs(place[1] - c))
    return value


def slow_picture(paints, glyphs, row, side):
    """One scene, painted pixel by pixel; and the slot of the front digit with ink at every pixel, or -1."""
    image, front = np.zeros((side, side)), np.full((side, side), -1)
    for kind, paint in enumerate(paints):
        for slot in np.flatnonzero(paint.present[row]):
            glyph = (glyphs[paint.glyph[row, slot]] * piece_masks()[paint.piece[row, slot]]).numpy()
            corner = paint.centre[row, slot] - paint.extent[row, slot] / 2
            for y, x in np.ndindex(side, side):
                place = (np.array([y, x]) + 0.5 - corner) * 8 / paint.extent[row, slot] - 0.5
                alpha = sample(glyph, place)
                image[y, x] = image[y, x] * (1 - alpha) + paint.brightness[row, slot] * alpha
                if kind == 1 and alpha > INK:
                    front[y, x] = slot
    return image, front


@pytest.fixture(scope="module")
def drawn():
    scenes = Scenes(SPEC, split="test", seed=1)
    table = scenes.table(0)
    objects = (table.digits, table.fragments, scenes.glyphs, SPEC.canvas)
    return scenes, table, render(*objects, table.values, table.distance_m, ALL)


@pytest.mark.parametrize("row", range(12))
def test_a_picture_equals_loops_over_pixels(drawn, row):
    scenes, table, picture = drawn
    image, front = slow_picture((table.fragments, table.digits), scenes.glyphs, row, SPEC.canvas)
    np.testing.assert_allclose(picture.image[row], image, atol=2e-6)
    values = np.append(table.values[row] + 1, 0)
    metres = np.append(table.distance_m[row], FAR_M)
    np.testing.assert_array_equal(picture.mask[row], values[front])
    np.testing.assert_allclose(picture.depth[row, 0], metres[front], rtol=1e-6)


def test_the_image_is_the_picture_and_noise_within_bounds(drawn):
    scenes, table, picture = drawn
    images = scenes.batch(0, BLOCK).images[:, 0]
    area = SPEC.canvas**2
    for row in range(0, BLOCK, 17):
        noise = scenes.noise[table.offset[row] :][:area].view(SPEC.canvas, SPEC.canvas)
        expected = (picture.image[row] + table.sigma[row] * noise).clamp(0, 1)
        torch.testing.assert_close(images[row], expected, atol=1e-6, rtol=0)


def test_masks_show_only_digits_that_are_there(drawn):
    _, table, picture = drawn
    for row in range(BLOCK):
        seen = set(picture.mask[row].unique().tolist()) - {0}
        assert seen <= set(table.values[row][table.present[row]] + 1)


def test_a_digit_alone_on_an_empty_ground_is_bright_exactly_where_its_mask_is():
    spec = replace(SPEC, max_digits=1, grid=1, clutter=0, noise=(0.0, 0.0), contrast=(1.0, 1.0))
    batch = Scenes(spec, split="test").batch(0, 300, ALL)
    assert torch.equal(batch.images[:, 0] > INK, batch.mask > 0)
    assert torch.equal(batch.mask.amax((1, 2)) - 1, batch.labels)


def test_depth_is_near_for_large_digits_and_the_wall_elsewhere():
    batch = Scenes(SPEC, split="test").batch(0, 500, ALL)
    digits = batch.depth[:, 0][batch.mask > 0]
    assert digits.min() >= NEAR_M
    assert digits.max() <= NEAR_M * SPEC.max_size / SPEC.min_size + 1e-5 < FAR_M
    assert (batch.depth[:, 0][batch.mask == 0] == FAR_M).all()


def test_nearer_digits_are_painted_over_farther_ones(drawn):
    _, table, _ = drawn
    shown = np.where(table.present, table.distance_m, 0)
    assert (np.diff(shown, axis=1) <= 1e-12).all()


@settings(max_examples=50, deadline=None)
@given(st.floats(8, 40), st.floats(4, 30))
def test_weights_of_a_pixel_sum_to_one_inside_and_never_exceed_it(centre, extent):
    weights = interpolation(torch.tensor(centre), torch.tensor(extent), 48)
    total = weights.sum(1)
    assert weights.min() >= 0
    assert total.max() <= 1 + 1e-5
    pixel = torch.arange(48) + 0.5
    inside = (pixel - centre).abs() < extent / 2 - extent / 16 - 1e-3
    torch.testing.assert_close(total[inside], torch.ones(int(inside.sum())), atol=1e-4, rtol=0)
