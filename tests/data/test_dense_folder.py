"""Folders of pictures with masks or depth maps: layouts, what counts, what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from adapcli.data.dataset import open_dataset
from adapcli.data.dense import IGNORE
from adapcli.data.images import turned
from adapcli.data.pairs import list_pairs
from adapcli.data.targets import Coding, read_depth, read_mask
from adapcli.data.transforms import preprocess, preprocess_target
from adapcli.errors import FileError, UsageError
from adapcli.model.preprocessing import Preprocessing
from adapcli.training.recipe import load_recipe
from adapcli.training.source import open_source

RGB = Preprocessing(16, 16, (0.0,) * 3, (1.0,) * 3)
SIZE = (20, 16)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)


def mask(seed, classes=4):
    return np.random.default_rng(seed).integers(0, classes, (SIZE[1], SIZE[0]), np.uint8)


def metres(seed):
    return np.random.default_rng(seed).integers(500, 9000, (SIZE[1], SIZE[0])).astype(np.uint16)


@pytest.fixture
def masks(tmp_path):
    """40 pictures and masks in one part."""
    for i in range(40):
        save(tmp_path / "images" / f"{i:02}.jpg", picture(i))
        save(tmp_path / "masks" / f"{i:02}.png", mask(i))
    return tmp_path


@pytest.fixture
def depths(tmp_path):
    for i in range(40):
        save(tmp_path / "rgb" / f"rgb_{i:02}.png", picture(i))
        save(tmp_path / "depth" / f"depth_{i:02}.png", metres(i))
    return tmp_path


def open_here(root, task="segmentation", split="test", **options):
    return open_dataset(f"folder:{root}", split=split, preprocessing=RGB, task=task, **options)


def test_masks_go_with_their_pictures_whatever_the_split(masks):
    seen = []
    for split in ("fit", "tune", "calibration", "test"):
        data = open_here(masks, split=split)
        batch = data.batch(0, len(data))
        for name, image, target in zip(batch.sample_ids, batch.images, batch.targets, strict=True):
            number = int(name.removeprefix("images/").removesuffix(".jpg"))
            assert torch.equal(target, torch.from_numpy(mask(number).astype(np.int64))[:, 2:18])
            assert torch.equal(image, preprocess(Image.open(masks / name), RGB))
            seen.append(number)
    assert sorted(seen) == list(range(40))
    assert data.class_names == ["0", "1", "2", "3"]
    assert batch.targets.dtype == torch.int64


def test_depths_are_metres_and_zero_is_unknown(depths):
    data = open_here(depths, "depth")
    batch = data.batch(0, 2)
    numbers = [int(name[8:10]) for name in batch.sample_ids]
    expected = np.stack([metres(number)[:, 2:18] for number in numbers]) / 1000
    np.testing.assert_allclose(batch.targets, expected, rtol=1e-6)
    assert batch.targets.dtype == torch.float32
    assert data.class_names == []
    scaled = open_here(depths, "depth", depth_scale=256.0)
    np.testing.assert_allclose(scaled.batch(0, 2).targets, expected * 1000 / 256, rtol=1e-6)
    assert scaled.fingerprint != data.fingerprint
    (depths / "dataset.json").write_text(json.dumps({"depth_scale": 256}))
    assert open_here(depths, "depth").fingerprint == scaled.fingerprint


def test_ade20k_counts_from_one_and_leaves_zero_out(tmp_path):
    for part, n in (("training", 3), ("validation", 30)):
        for i in range(n):
            save(tmp_path / "images" / part / f"ADE_{i:03}.jpg", picture(i))
            save(tmp_path / "annotations" / part / f"ADE_{i:03}.png", mask(i))
    data = open_here(tmp_path)
    assert len(data.class_names) == 150
    target, name = data.batch(0, 1).targets[0], data.batch(0, 1).sample_ids[0]
    raw = torch.from_numpy(mask(int(name[-7:-4])).astype(np.int64))[:, 2:18]
    assert torch.equal(target, torch.where(raw == 0, IGNORE, raw - 1))
    assert set(list_pairs(tmp_path, "segmentation").catalogue.parts) == {"train", "val"}
    lines = [
        "Idx\tRatio\tTrain\tVal\tStuff\tName",
        *(f"{i}\t0.1\t1\t1\t1\tthing {i}, other" for i in range(150)),
    ]
    (tmp_path / "objectInfo150.txt").write_text("\n".join(lines))
    assert open_here(tmp_path).class_names[:2] == ["thing 0", "thing 1"]


@pytest.mark.parametrize("inner", [True, False], ids=["images/train", "train/images"])
def test_parts_lie_inside_or_outside(tmp_path, inner):
    for part in ("train", "val", "test"):
        for i in range(40):
            for kind, values in (("images", picture(i)), ("masks", mask(i))):
                folder = tmp_path / kind / part if inner else tmp_path / part / kind
                save(folder / f"{part}{i}.png", values)
    for split, part in (("train", "train"), ("tune", "val"), ("test", "test")):
        assert f"/{part}" in open_here(tmp_path, split=split).batch(0, 1).sample_ids[0]


def test_what_a_mask_says_is_not_scored_is_ignored(masks):
    save(masks / "masks" / "00.png", np.where(mask(0) == 3, np.uint8(255), mask(0)).astype(np.uint8))
    assert set(np.unique(read_mask(masks / "masks" / "00.png").values)) == {0, 1, 2, IGNORE}
    assert set(np.unique(read_mask(masks / "masks" / "01.png", Coding(ignore=3)).values)) == {0, 1, 2, IGNORE}


def test_palettes_count_by_index_and_16_bits_are_classes_too(tmp_path):
    image = Image.fromarray(mask(0), mode=None).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0] * 128)
    image.putdata(mask(0).flatten().tolist())
    image.save(tmp_path / "p.png")
    save(tmp_path / "i.png", mask(0).astype(np.uint16))
    assert np.array_equal(read_mask(tmp_path / "p.png").values, mask(0))
    assert np.array_equal(read_mask(tmp_path / "i.png").values, mask(0))


def test_floating_point_depth_is_metres_and_what_is_no_number_unknown(tmp_path):
    values = np.array([[1.5, np.nan], [-2.0, np.inf]], np.float32)
    Image.fromarray(values).save(tmp_path / "d.tiff")
    assert np.array_equal(read_depth(tmp_path / "d.tiff", Coding(scale=7.0)).values, [[1.5, 0], [0, 0]])


def test_targets_are_framed_as_their_pictures_are():
    """A picture whose brightness is its mask's class, resized and cropped, keeps to its mask."""
    classes = np.kron(np.arange(12).reshape(3, 4), np.ones((31, 29))).astype(np.uint8)
    framing = Preprocessing(48, 64, (0.0,), (1.0,))
    seen = preprocess(Image.fromarray(classes * 20), framing)[0] * 255 / 20
    target = torch.from_numpy(preprocess_target(classes, framing))
    assert set(target.unique().tolist()) <= set(range(12))
    sharp = (seen - seen.round()).abs() < 1e-4
    assert sharp.float().mean() > 0.8
    assert torch.equal(seen.round()[sharp], target[sharp])


def test_unreadable_pictures_and_masks_are_skipped_and_told(masks):
    (masks / "images" / "03.jpg").write_bytes(b"no picture")
    (masks / "masks" / "04.png").write_bytes(b"")
    found = open_all(masks)
    skipped = {name: reason for data in found for name, reason in data.skipped}
    assert set(skipped) == {"images/03.jpg", "images/04.jpg"}
    assert skipped["images/04.jpg"] == "04.png: empty file"
    assert sum(map(len, found)) == 38


def open_all(root, task="segmentation", **options):
    return [open_here(root, task, split, **options) for split in ("fit", "tune", "calibration", "test")]


BAD_MASKS = {
    "no mask": (
        lambda root: [path.unlink() for path in (root / "masks").glob("1*.png")],
        r"images/10\.jpg: has no mask, and 9 more of 40",
    ),
    "another size": (
        lambda root: save(root / "masks" / "07.png", np.zeros((9, 9), np.uint8)),
        r"masks/07\.png: 9 x 9 pixels, its picture has 20 x 16",
    ),
    "a class beyond": (
        lambda root: save(root / "masks" / "07.png", np.full((16, 20), 9, np.uint8)),
        r"masks/07\.png: class 9, there are 4 \(0\.\.3\)",
    ),
}


@pytest.mark.parametrize("case", sorted(BAD_MASKS))
def test_wrong_masks_are_refused_by_name(masks, case):
    change, message = BAD_MASKS[case]
    change(masks)
    with pytest.raises(FileError, match=message) as caught:
        open_all(masks, class_names=["a", "b", "c", "d"])
    assert "\n" not in caught.value.message


def test_wrong_depths_are_refused_by_name(depths):
    save(depths / "depth" / "depth_05.png", np.zeros((16, 20), np.uint16))
    with pytest.raises(FileError, match=r"depth_05\.png: no pixel has a depth: all 320 are 0"):
        open_all(depths, "depth")


def test_depths_of_8_bits_are_refused(depths):
    save(depths / "depth" / "depth_05.png", mask(0))
    with pytest.raises(FileError, match=r"depth_05\.png: depth needs 16 bits per pixel, this has mode L"):
        open_all(depths, "depth")


def test_other_folders_are_refused(tmp_path, masks):
    with pytest.raises(FileError, match="no such folder"):
        open_here(tmp_path / "nothing")
    with pytest.raises(FileError, match=r"no folders of pictures and depth maps") as caught:
        open_here(masks, "depth")
    assert "images or image or rgb beside depths or depth" in caught.value.hint
    with pytest.raises(UsageError, match="has no masks"):
        open_dataset("npz:x.npz", split="test", preprocessing=RGB, task="segmentation")
    (masks / "dataset.json").write_text(json.dumps({"class_names": list("abcd")}))
    with pytest.raises(FileError, match="4 classes, the model has 5"):
        open_here(masks, class_names=list("abcde"))


@pytest.mark.parametrize(
    "told", ['{"class_names": ["one"]}', '{"ignore": -1}', '{"depth_scale": 0}', '{"x": 1}', "[]"]
)
def test_a_description_that_says_something_else_is_refused(masks, told):
    (masks / "dataset.json").write_text(told)
    with pytest.raises(FileError, match=r"dataset\.json"):
        open_here(masks)


def test_adding_pairs_moves_no_other(masks):
    before = {name for name in open_here(masks).batch(0, len(open_here(masks))).sample_ids}
    for i in range(40, 60):
        save(masks / "images" / f"{i}.jpg", picture(i))
        save(masks / "masks" / f"{i}.png", mask(i))
    data = open_here(masks)
    after = set(data.batch(0, len(data)).sample_ids)
    assert {name for name in after if int(name[7:9]) < 40} == before
    assert len(after) > len(before)


def one_pair(root, target, orientation=1, size=(32, 32), own=1):
    """40 pairs: the upper half of the stored image is white; `target` of it is saved as it is."""
    for index in range(40):
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[: size[1] // 2] = 255
        pixels[-1, 0] = index
        path = root / "images" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, exif=exif(orientation))
        save(root / "masks" / f"{index}.png", target)
        if own != 1:
            Image.fromarray(target).save(root / "masks" / f"{index}.png", exif=exif(own))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def halves(size=(32, 32)):
    """Class 1 where `one_pair` is white."""
    values = np.zeros((size[1], size[0]), np.uint8)
    values[: size[1] // 2] = 1
    return values


def agree(root, **options):
    """Whether white pixels are class 1 in every sample of a split."""
    data = open_here(root, class_names=["dark", "white"], **options)
    batch = data.batch(0, len(data))
    return torch.equal(batch.images[:, 0] > 0.5, batch.targets == 1), data


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("size", [(32, 32), (32, 20)])
def test_masks_of_stored_pixels_are_turned_with_their_images(tmp_path, orientation, size):
    one_pair(tmp_path, halves(size), orientation, size)
    aligned, data = agree(tmp_path)
    assert aligned
    unclear = size == (32, 32) or orientation < 5
    assert any(decision.warning for decision in data.findings.decisions) == unclear
    if unclear:
        text = next(decision.text for decision in data.findings.decisions if decision.warning)
        assert text.startswith("40 of 40 images examined are turned by EXIF")
        assert '"orientation": "upright" in dataset.json' in text


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("size", [(32, 32), (32, 20)])
def test_masks_of_upright_pixels_are_left_as_they_are(tmp_path, orientation, size):
    upright = np.asarray(turned(Image.fromarray(halves(size)), orientation))
    one_pair(tmp_path, upright, orientation, size)
    if size == (32, 32) or orientation < 5:
        (tmp_path / "dataset.json").write_text('{"orientation": "upright"}')
    aligned, data = agree(tmp_path)
    assert aligned
    assert not any(decision.warning for decision in data.findings.decisions)


def test_a_mask_with_an_orientation_of_its_own_is_upright(tmp_path):
    one_pair(tmp_path, halves(), orientation=3, own=3)
    aligned, data = agree(tmp_path)
    assert aligned
    assert not any(decision.warning for decision in data.findings.decisions)


def test_targets_whose_size_says_nothing_follow_those_whose_size_does(tmp_path):
    """Ten upright masks of images on their side, so those of images on their head are taken as upright."""
    one_pair(tmp_path, np.asarray(turned(Image.fromarray(halves()), 3)), orientation=3)
    for index in range(40, 50):
        path = tmp_path / "images" / f"{index}.png"
        Image.fromarray(np.zeros((20, 32, 3), np.uint8)).save(path, exif=exif(6))
        save(tmp_path / "masks" / f"{index}.png", np.zeros((32, 20), np.uint8))
    aligned, data = agree(tmp_path)
    assert aligned
    assert "taken as made on the upright pixels" in data.findings.decisions[-1].text


def test_a_size_that_no_turn_explains_names_exif(tmp_path):
    one_pair(tmp_path, halves((30, 20)), orientation=6, size=(32, 20))
    message = r"30 x 20 pixels, its picture has 20 x 32, upright by EXIF orientation 6; 32 x 20 stored"
    with pytest.raises(FileError, match=message):
        agree(tmp_path)


def write_masks(root, change, ending="png", folder="masks"):
    for index in range(40):
        save(root / "images" / f"{index}.png", picture(index))
        save(root / folder / f"{index}.{ending}", change(mask(index, 2)))


FOREGROUND = {
    "foreground": ('{"foreground": 255}', ["background", "foreground"]),
    "values": ('{"values": {"0": 0, "255": 1}}', ["background", "foreground"]),
    "colours": ('{"colours": {"#000000": 0, "#FFFFFF": 1}}', ["background", "foreground"]),
    "names": ('{"foreground": 255, "class_names": ["sky", "bird"]}', ["sky", "bird"]),
}


def test_masks_of_0_and_255_are_refused_with_the_ways_to_say_what_is_meant(tmp_path):
    write_masks(tmp_path, lambda values: values * 255)
    with pytest.raises(FileError, match="hold 0 and 255 alone") as caught:
        open_here(tmp_path)
    assert '"foreground": 255' in caught.value.hint
    (tmp_path / "dataset.json").write_text('{"ignore": 255}')
    assert set(open_here(tmp_path).batch(0, 4).targets.unique().tolist()) == {0, IGNORE}


@pytest.mark.parametrize("how", sorted(FOREGROUND))
def test_values_mean_what_the_description_says(tmp_path, how):
    write_masks(tmp_path, lambda values: values * 255)
    said, names = FOREGROUND[how]
    (tmp_path / "dataset.json").write_text(said)
    data = open_here(tmp_path)
    assert data.class_names == names
    batch = data.batch(0, 3)
    for name, target in zip(batch.sample_ids, batch.targets, strict=True):
        expected = mask(int(name[7:-4]), 2)[:, 2:18].astype(np.int64)
        assert torch.equal(target, torch.from_numpy(expected))


def test_colours_are_classes_null_is_not_scored_and_others_are_refused(tmp_path):
    palette = np.array([[255, 0, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    write_masks(tmp_path, lambda values: palette[values])
    with pytest.raises(FileError, match="one class per pixel, this has mode RGB") as caught:
        open_here(tmp_path)
    assert '"colours"' in caught.value.hint
    (tmp_path / "dataset.json").write_text('{"colours": {"#FF0000": 3, "#0000ff": null}}')
    data = open_here(tmp_path)
    assert len(data.class_names) == 4
    assert set(data.batch(0, 4).targets.unique().tolist()) == {3, IGNORE}
    save(tmp_path / "masks" / "7.png", palette[np.full((16, 20), 2)])
    with pytest.raises(FileError, match=r"7\.png: #090909 is not among the colours of dataset\.json"):
        open_all(tmp_path)


def test_grey_in_three_channels_is_read_as_one(tmp_path):
    write_masks(tmp_path, lambda values: np.stack([values] * 3, -1))
    assert open_here(tmp_path).class_names == ["0", "1"]


def test_lossy_masks_are_refused(tmp_path):
    write_masks(tmp_path, lambda values: values, ending="jpg")
    with pytest.raises(FileError, match="JPEG is lossy") as caught:
        open_here(tmp_path)
    assert "PNG" in caught.value.hint


@pytest.mark.parametrize("first", [0, 1])
def test_annotations_that_are_not_of_ade20k_are_asked_about(tmp_path, first):
    write_masks(tmp_path, lambda values: values, folder="annotations")
    with pytest.raises(FileError, match="values 0 to 1: do classes count from 0, or from 1") as caught:
        open_here(tmp_path)
    assert '"first": 0' in caught.value.hint
    (tmp_path / "dataset.json").write_text(json.dumps({"first": first}))
    found = set(open_here(tmp_path).batch(0, 4).targets.unique().tolist())
    assert found == ({0, 1} if first == 0 else {0, IGNORE})


@pytest.mark.parametrize("values", ["smoothed", "far apart"])
def test_values_that_are_hardly_classes_are_refused(tmp_path, values):
    change = (lambda m: m * 3 + mask(9, 190)) if values == "smoothed" else (lambda m: m * 50)
    write_masks(tmp_path, lambda m: change(m).astype(np.uint8))
    with pytest.raises(FileError, match="are they classes"):
        open_here(tmp_path)


@pytest.mark.parametrize(
    "said",
    [
        '{"first": 1, "foreground": 255}',
        '{"values": {"x": 1}}',
        '{"values": {"1": null}}',
        '{"colours": {"red": 1}}',
        '{"colours": {"#FF0000": 255}}',
        '{"foreground": 0}',
        '{"orientation": "left"}',
        '{"values": {"0": 0, "9": 3}, "class_names": ["a", "b"]}',
    ],
)
def test_descriptions_that_cannot_be_are_refused(masks, said):
    (masks / "dataset.json").write_text(said)
    with pytest.raises(FileError, match=r"dataset\.json"):
        open_here(masks)


def test_damaged_targets_are_skipped_and_counted_in_training(masks):
    for index in (3, 4):
        (masks / "masks" / f"0{index}.png").write_bytes((masks / "masks" / "05.png").read_bytes()[:60])
    recipe = load_recipe(
        "digits-segmentation", [f"data=folder:{masks}", "batch=8", "train_share=0.9", "evaluate_samples=2"]
    )
    source = open_source(recipe)
    with source.feed(recipe, RGB) as feed:
        for number in range(10):
            assert feed.batch(number).targets.shape == (8, 16, 16)
    assert set(feed.skipped) <= {"images/03.jpg", "images/04.jpg"}
    assert feed.skipped
    save(masks / "masks" / "03.png", np.zeros((9, 9), np.uint8))
    (masks / "masks" / "04.png").write_bytes((masks / "masks" / "05.png").read_bytes())
    save(masks / "masks" / "04.png", np.zeros((9, 9), np.uint8))
    with source.feed(recipe, RGB) as feed, pytest.raises(FileError, match=r"0[34]\.png: 9 x 9 pixels"):
        [feed.batch(number) for number in range(10)]
