"""Augmentation: the same for the same batch, nothing if nothing is asked, and Pillow's meaning of each."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from torch.nn.functional import one_hot

from adapcli.data.augment import Augmentation, colour, geometry, mixing, randaugment
from adapcli.errors import UsageError
from adapcli.model.preprocessing import Preprocessing

CHANNELS = pytest.mark.parametrize("channels", [1, 3])
EVERYTHING = {"crop": 0.4, "flip": 0.5, "colour": 0.4, "randaugment": 2, "magnitude": 15.0, "erasing": 0.5}
EVERYTHING |= {"mixup": 0.8, "cutmix": 1.0}


def augmentation(channels=3, seed=0, **parts) -> Augmentation:
    preprocessing = Preprocessing(12, 12, (0.4,) * channels, (0.3,) * channels)
    return Augmentation(preprocessing=preprocessing, num_classes=5, seed=seed, **parts)


def batch(channels=3, size=6, height=12, width=12):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(size, channels, height, width, generator=generator)
    return (pixels - 0.4) / 0.3, torch.arange(size) % 5


def rng(seed=0):
    return np.random.default_rng(seed)


@CHANNELS
def test_shapes_stay_and_a_batch_depends_on_seed_and_number_alone(channels):
    images, labels = batch(channels)
    made = augmentation(channels, **EVERYTHING)
    first = made(images, labels, 3)
    made(images, labels, 4)
    again = augmentation(channels, **EVERYTHING)(images, labels, 3)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[0].shape == images.shape
    assert first[0].dtype == images.dtype
    for other in (made(images, labels, 4), augmentation(channels, 1, **EVERYTHING)(images, labels, 3)):
        assert not torch.equal(first[0], other[0])


@CHANNELS
def test_nothing_asked_changes_no_bit(channels):
    images, labels = batch(channels)
    before = images.clone()
    out, same = augmentation(channels)(images, labels, 0)
    assert torch.equal(out, before)
    assert torch.equal(same, labels)
    augmentation(channels, **EVERYTHING)(images, labels, 0)
    assert torch.equal(images, before), "the images given are changed"


@settings(max_examples=30, deadline=None)
@given(
    number=st.integers(0, 2**40),
    crop=st.floats(0.05, 1),
    alphas=st.tuples(st.floats(0, 5), st.floats(0, 5)),
    magnitude=st.floats(0, 30),
    channels=st.sampled_from([1, 3]),
)
def test_images_stay_finite_and_shares_of_classes_sum_to_one(number, crop, alphas, magnitude, channels):
    parts = {**EVERYTHING, "crop": crop, "mixup": alphas[0], "cutmix": alphas[1], "magnitude": magnitude}
    images, shares = augmentation(channels, **parts)(*batch(channels), number)
    assert torch.isfinite(images).all()
    if any(alphas):
        torch.testing.assert_close(shares.sum(1), torch.ones(6))
        assert shares.min() >= 0
    else:
        assert shares.dtype == torch.int64


def test_two_mirrorings_are_none():
    images, _ = batch()
    assert torch.equal(geometry.flip(geometry.flip(images, 1, rng()), 1, rng()), images)
    assert torch.equal(geometry.flip(images, 1, rng()), images.flip(-1))
    assert torch.equal(geometry.flip(images, 0, rng()), images)


def test_half_of_the_images_are_mirrored():
    images = torch.arange(2.0).expand(2000, 1, 1, 2)
    mirrored = geometry.flip(images, 0.5, rng())[:, 0, 0, 0].mean()
    assert 0.45 < mirrored < 0.55


def test_a_crop_shows_the_part_of_the_area_that_it_may():
    """A slope's range in the crop, across and down, is the part of its sides that is seen."""
    slope = torch.linspace(-1, 1, 64)
    images = torch.stack([slope.expand(64, 64), slope[:, None].expand(64, 64)])[None].repeat(300, 1, 1, 1)
    seen = geometry.resized_crop(images, 0.3, rng())
    sides = (seen.amax((2, 3)) - seen.amin((2, 3))) / 2
    area, ratio = sides.prod(1), sides[:, 0] / sides[:, 1]
    assert 0.28 < area.min() < 0.34
    assert 0.9 < area.max() <= 1.0
    assert 0.74 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.36
    even = torch.full((9, 1, 8, 8), 7.0)
    torch.testing.assert_close(geometry.resized_crop(even, 0.3, rng()), even)  # nothing from outside is seen


@pytest.mark.parametrize("name", sorted(set(randaugment.OPERATIONS) - {"autocontrast", "equalize"}))
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_an_operation_of_magnitude_zero_changes_nothing(name, sign):
    pixels = torch.rand(3, 3, 9, 11)
    if name in randaugment.GEOMETRIC:
        rows = np.stack([randaugment.place(name, sign * 0.0, pixels)] * 3)
        out = geometry.warp(pixels, rows)
    else:
        out = randaugment.apply(name, pixels, np.full(3, sign), 0.0)
    torch.testing.assert_close(out, pixels, atol=1e-5, rtol=0)


def as_picture(pixels):
    levels = (pixels[0] * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def as_pixels(image):
    levels = np.atleast_3d(np.array(image))
    return torch.from_numpy(levels.copy()).permute(2, 0, 1)[None].float() / 255


def factor(value):
    return torch.full((1, 1, 1, 1), value)


PILLOW = {
    "brightness": (
        lambda x: colour.brightness(x, factor(1.6)),
        lambda i: ImageEnhance.Brightness(i).enhance(1.6),
    ),
    "contrast": (lambda x: colour.contrast(x, factor(0.3)), lambda i: ImageEnhance.Contrast(i).enhance(0.3)),
    "saturation": (lambda x: colour.saturation(x, factor(1.9)), lambda i: ImageEnhance.Color(i).enhance(1.9)),
    "sharpness": (
        lambda x: colour.sharpness(x, factor(1.9)),
        lambda i: ImageEnhance.Sharpness(i).enhance(1.9),
    ),
    "posterize": (lambda x: colour.posterize(x, factor(3.0)), lambda i: ImageOps.posterize(i, 3)),
    "solarize": (lambda x: colour.solarize(x, factor(127.5 / 255)), lambda i: ImageOps.solarize(i, 128)),
    "autocontrast": (colour.autocontrast, ImageOps.autocontrast),
    "equalize": (colour.equalize, ImageOps.equalize),
}


@CHANNELS
@pytest.mark.parametrize("name", PILLOW)
def test_pixels_change_as_pillow_changes_them(name, channels):
    """Pillow rounds to 256 levels on the way, once or twice."""
    ours, theirs = PILLOW[name]
    dark = torch.rand(1, channels, 17, 19, generator=torch.Generator().manual_seed(2)) ** 2 * 0.8
    picture = as_picture(dark)
    levels = 2.6 if name in ("sharpness", "saturation") else 1.6
    difference = (ours(as_pixels(picture)) - as_pixels(theirs(picture))).abs().max() * 255
    assert difference <= levels


def test_an_image_of_one_value_has_no_contrast_to_stretch():
    pixels = torch.full((2, 3, 8, 8), 0.3)
    assert torch.equal(colour.autocontrast(pixels), pixels)
    assert torch.equal(colour.equalize(pixels), pixels)


@CHANNELS
def test_turning_and_shifting_as_pillow_does(channels):
    smooth = torch.rand(1, channels, 5, 5, generator=torch.Generator().manual_seed(3))
    smooth = torch.nn.functional.interpolate(smooth, size=(40, 40), mode="bilinear")
    picture = as_picture(smooth)
    turned = geometry.warp(as_pixels(picture), randaugment.place("rotate", 1.0, smooth)[None])
    by_pillow = as_pixels(picture.rotate(30, Image.Resampling.BILINEAR))
    middle = (slice(None), slice(None), slice(12, 28), slice(12, 28))
    assert (turned - by_pillow)[middle].abs().max() * 255 < 3
    shifted = geometry.warp(as_pixels(picture), randaugment.place("translate_x", 0.5, smooth)[None])
    pixels = round(150 / 331 * 0.5 * 40)  # 9.06
    torch.testing.assert_close(shifted[..., :20], smooth[..., pixels : 20 + pixels], atol=0.02, rtol=0)
    assert (shifted[..., -8:] == 0).all()


def test_every_operation_of_randaugment_is_drawn():
    pixels = torch.rand(1, 1, 40, 40).expand(500, 1, 40, 40).contiguous()
    out = randaugment.one_each(pixels, 10.0, rng())
    kinds = torch.unique(out.flatten(1), dim=0)
    # Each kind once, but twice where a sign is drawn and once for identity and saturation of grey alike.
    assert len(kinds) == 1 + 2 * 5 + 2 * 3 + 4


def test_a_pasted_rectangle_is_worth_its_area():
    """Images are of their label alone, so what is seen of a class can be counted."""
    labels = torch.arange(64) % 5
    images = labels.float()[:, None, None, None].expand(-1, 1, 10, 14).contiguous()
    mixed, shares = mixing.mix(images, labels, 5, 0.0, 1.0, rng())
    counted = one_hot(mixed.long()[:, 0], 5).float().mean((1, 2))
    torch.testing.assert_close(shares, counted)
    assert (shares.amax(1) < 1).any()


def test_a_mean_of_two_images_is_worth_their_weights():
    labels = torch.arange(64) % 5
    images = one_hot(labels, 5).float()[:, :, None, None].expand(-1, 5, 4, 4).contiguous()
    mixed, shares = mixing.mix(images, labels, 5, 0.8, 0.0, rng())
    torch.testing.assert_close(mixed[:, :, 1, 1], shares)
    assert (shares.amax(1) < 1).any()


def test_with_both_each_sample_gets_one_of_them():
    labels = torch.arange(400) % 5
    images = labels.float()[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    mixed, _ = mixing.mix(images, labels, 5, 1.0, 1.0, rng())
    flat = mixed.flatten(1)
    pasted = ((flat == flat.round()).all(1) & (flat.amin(1) < flat.amax(1))).sum()
    blended = ((flat != flat.round()).any(1)).sum()
    assert pasted > 80
    assert blended > 100
    assert ((flat.amin(1) == flat.amax(1)) | (flat == flat.round()).all(1)).all()


def test_erasing_replaces_a_rectangle_by_noise():
    images = torch.zeros(500, 1, 30, 30)
    out = mixing.erase(images, 0.25, rng())
    erased = (out != 0).flatten(1).float().mean(1)
    assert 0.18 < (erased > 0).float().mean() < 0.32
    assert 0 < erased[erased > 0].min() < 0.06
    assert erased.max() < 0.36
    (one,) = torch.where(erased > 0)[0][:1]
    rows, columns = (out[one, 0] != 0).any(1).sum(), (out[one, 0] != 0).any(0).sum()
    assert rows * columns == (out[one, 0] != 0).sum()
    assert torch.equal(mixing.erase(images, 0.0, rng()), images)


def test_images_of_two_channels_are_refused():
    with pytest.raises(UsageError, match="1 or 3 channels"):
        augmentation(channels=2)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no cuda on this machine")
@CHANNELS
def test_an_accelerator_draws_the_same(channels):
    images, labels = batch(channels)
    made = augmentation(channels, **EVERYTHING)
    here, there = made(images, labels, 3), made(images.cuda(), labels.cuda(), 3)
    assert there[0].device.type == "cuda"
    for ours, theirs in zip(here, there, strict=True):
        torch.testing.assert_close(ours, theirs.cpu(), atol=2 / 255 / 0.3, rtol=0)
