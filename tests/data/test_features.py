"""Features equal loops over pixels, and their cost is what the loops count."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapcli.data.features import CELLS, feature_flops, feature_names, image_features


class Counter:
    """Adds up operations as they are done."""

    def __init__(self):
        self.flops = 0

    def mean(self, values):
        self.flops += len(values)
        return sum(values) / len(values)

    def std(self, values, mean):
        self.flops += 3 * len(values) + 1
        return math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))

    def change(self, values, other):
        self.flops += len(values)
        return [a - b for a, b in zip(values, other, strict=True)]

    def size(self, values):
        self.flops += len(values)
        return self.mean([abs(v) for v in values])


def slow_features(image):
    """image: channels x rows x columns of plain numbers -> the features by name, and the operations done."""
    count = Counter()
    channels, height, width = len(image), len(image[0]), len(image[0][0])
    single = [[image[0][y][x] for x in range(width)] for y in range(height)]
    many = [[count.mean([c[y][x] for c in image]) for x in range(width)] for y in range(height)]
    grey = single if channels == 1 else many
    if channels == 1:
        count.flops = 0
    named = {}
    for row in range(CELLS):
        for column in range(CELLS):
            ys = range(row * height // CELLS, math.ceil((row + 1) * height / CELLS))
            xs = range(column * width // CELLS, math.ceil((column + 1) * width / CELLS))
            named[f"cell_{row}_{column}"] = count.mean([grey[y][x] for y in ys for x in xs])
    cells, pixels = list(named.values()), [v for row in grey for v in row]
    named["mean"] = count.mean(pixels)
    named["std"] = count.std(pixels, named["mean"])
    named["peak"] = max(pixels)
    count.flops += len(pixels) - 1
    named["cell_std"] = count.std(cells, count.mean(cells))
    across = [count.change(row[1:], row[:-1]) for row in grey]
    down = [count.change(low, high) for high, low in itertools.pairwise(grey)]
    both = [count.change(low, high) for high, low in itertools.pairwise(across)]
    for name, changes in (("edge_horizontal", across), ("edge_vertical", down), ("detail", both)):
        named[name] = count.size([v for row in changes for v in row])
    return named, count.flops


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([1, 3]), st.integers(2, 21), st.integers(2, 21), st.integers(0, 2**31))
def test_features_and_their_cost_equal_loops(channels, height, width, seed):
    images = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(seed))
    quick = image_features(images)
    for image, row in zip(images.double().tolist(), quick, strict=True):
        named, flops = slow_features(image)
        assert list(named) == feature_names()
        torch.testing.assert_close(row, torch.tensor(list(named.values())), atol=2e-6, rtol=1e-5)
        assert flops == feature_flops((height, width), channels)


def test_batch_mates_do_not_change_the_features_of_an_image():
    images = torch.rand(5, 3, 48, 48)
    alone = torch.cat([image_features(image[None]) for image in images])
    torch.testing.assert_close(image_features(images), alone)


@pytest.mark.parametrize(("size", "channels"), [((48, 48), 1), ((224, 224), 3)])
def test_features_cost_next_to_nothing(size, channels):
    """Less than 20 operations a pixel: 0.03 % of the cheapest configuration of the published model."""
    assert feature_flops(size, channels) < 20 * size[0] * size[1]


def test_noise_has_more_detail_than_a_smooth_ramp():
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    noise = torch.rand(1, 1, 32, 32)
    detail = feature_names().index("detail")
    assert image_features(ramp)[0, detail] < 1e-6 < image_features(noise)[0, detail]
