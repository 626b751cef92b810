"""Preprocessing equals the published one, step by step."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adapcli.data.transforms import LONGEST, denormalise, normalise, preprocess, preprocess_target
from adapcli.errors import UsageError
from adapcli.model.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing

PUBLISHED = Preprocessing.published(224, 3)


def noise_picture(width, height, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def by_hand(image, size, resize, resample):
    """torchvision's Resize(resize) and CenterCrop(size), written out."""
    width, height = image.size
    if width <= height:
        width, height = resize, int(resize * height / width)
    else:
        width, height = int(resize * width / height), resize
    resized = np.asarray(image.resize((width, height), resample), np.float64) / 255
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return resized[top : top + size, left : left + size]


def test_published_values():
    assert (PUBLISHED.resize, PUBLISHED.size, PUBLISHED.interpolation) == (256, 224, "bilinear")
    assert (PUBLISHED.mean, PUBLISHED.std) == (CLIP_MEAN, CLIP_STD)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (257, 300), (40, 31), (1024, 300)])
def test_published_preprocessing_by_hand(size):
    image = noise_picture(*size)
    expected = (by_hand(image, 224, 256, Image.Resampling.BILINEAR) - CLIP_MEAN) / CLIP_STD
    result = preprocess(image, PUBLISHED)
    assert result.shape == (3, 224, 224)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.permute(1, 2, 0), expected, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 9), st.booleans())
def test_any_shape_gives_the_size_asked_for(width, height, size, more, bicubic):
    interpolation = "bicubic" if bicubic else "bilinear"
    preprocessing = Preprocessing(size, size + more, (0.0,), (1.0,), interpolation)
    image = noise_picture(width, height, channels=1)
    result = preprocess(image, preprocessing)
    assert result.shape == (1, size, size)
    if max(width, height) <= LONGEST * min(width, height):
        resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
        np.testing.assert_allclose(result[0], by_hand(image, size, size + more, resample), atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_without_a_crop_the_whole_image_is_resized(interpolation):
    image = noise_picture(50, 20)
    found = preprocess(image, Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3, interpolation, "none"))
    expected = np.asarray(image.resize((8, 8), Image.Resampling[interpolation.upper()])) / 255
    np.testing.assert_allclose(found.permute(1, 2, 0), expected, atol=1e-6)
    classes = np.arange(1000).reshape(20, 50) % 7
    target = preprocess_target(classes, Preprocessing(8, 8, (0.0,), (1.0,), interpolation, "none"))
    nearest = Image.fromarray(classes.astype(np.uint8)).resize((8, 8), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(target, np.asarray(nearest))


def test_a_long_strip_does_not_fill_the_memory():
    strip = Image.new("RGB", (200_000, 2), (255, 0, 0))
    result = preprocess(strip, Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3))
    assert (result[0] == 1).all()
    assert (result[1:] == 0).all()


def test_normalise_and_back():
    images = torch.rand(2, 3, 5, 5)
    result = normalise(images, PUBLISHED)
    torch.testing.assert_close(result[:, 1], (images[:, 1] - CLIP_MEAN[1]) / CLIP_STD[1])
    torch.testing.assert_close(denormalise(result, PUBLISHED), images)


def test_grey_images_spread_over_three_channels():
    images = torch.rand(2, 1, 5, 5)
    result = normalise(images, Preprocessing(5, 5, (0.0, 0.5, 0.0), (1.0, 1.0, 2.0)))
    torch.testing.assert_close(result, torch.cat([images, images - 0.5, images / 2], 1))


def test_other_channels_are_refused():
    with pytest.raises(UsageError, match="1 or 3 channels, the model takes 4"):
        normalise(torch.rand(1, 1, 4, 4), Preprocessing(4, 4, (0.0,) * 4, (1.0,) * 4))
