"""Masks and depth maps move with their pictures."""

import numpy as np
import pytest
import torch

from adapcli.data.augment import Augmentation, geometry
from adapcli.data.dense import IGNORE
from adapcli.model.preprocessing import Preprocessing

PLAIN = Preprocessing(24, 24, (0.0,), (1.0,))
MOVING = {"crop": 0.3, "flip": 0.5}


def augmentation(**parts):
    return Augmentation(preprocessing=PLAIN, num_classes=5, seed=0, **parts)


def blocks(size=8):
    """Pictures of coarse blocks whose brightness is a tenth of the class of the mask."""
    classes = torch.randint(8, (size, 4, 4), generator=torch.Generator().manual_seed(0))
    masks = classes.repeat_interleave(6, 1).repeat_interleave(6, 2)
    return (masks / 10)[:, None], masks


@pytest.mark.parametrize("parts", [MOVING, {"flip": 1.0}, {"crop": 0.5}], ids=str)
def test_a_mask_shows_what_its_picture_shows(parts):
    images, masks = blocks()
    for number in range(5):
        moved, targets = augmentation(**parts)(images, masks, number)
        assert targets.dtype == torch.int64
        assert not torch.equal(targets, masks)
        # Between blocks the picture is a mixture, which now and then looks like a third class.
        classes = moved[:, 0] * 10
        sharp = (classes - classes.round()).abs() < 1e-3
        assert sharp.float().mean() > 0.4
        assert (classes.round()[sharp] == targets[sharp]).float().mean() > 0.97


def test_pictures_move_as_they_do_with_labels():
    images, masks = blocks()
    everything = {**MOVING, "colour": 0.3, "erasing": 0.5}
    with_maps = augmentation(**everything)(images, masks, 3)[0]
    assert torch.equal(with_maps, augmentation(**everything)(images, torch.zeros(8, dtype=torch.int64), 3)[0])


def test_nothing_new_appears_in_a_mask():
    images, masks = blocks()
    masks = torch.where(masks == 3, IGNORE, masks)
    for number in range(10):
        targets = augmentation(**MOVING)(images, masks, number)[1]
        assert set(targets.unique().tolist()) <= set(masks.unique().tolist())


def test_what_is_seen_larger_is_nearer():
    """A crop of a quarter of the area doubles the size: metres are halved, unknown stays unknown."""
    metres = torch.full((1, 8, 8), 6.0)
    metres[:, :, 3:5] = 0
    quarter = np.array([[[0.5, 0, 0], [0, 0.5, 0]]])
    moved = geometry.cropped_maps(metres, quarter)
    assert set(moved.unique().tolist()) == {0.0, 3.0}
    assert (moved == 0).float().mean() == 0.5
    assert torch.equal(geometry.mirrored(metres, np.array([True])), metres)


def test_mirrored_ones_are_those_chosen():
    maps = torch.arange(2 * 3 * 4).view(2, 3, 4)
    moved = geometry.mirrored(maps, np.array([True, False]))
    assert torch.equal(moved[0], maps[0].flip(-1))
    assert torch.equal(moved[1], maps[1])
