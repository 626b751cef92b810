"""ImageNet's layouts, in small: the published preprocessing, classes by code, val in a heap."""

import numpy as np
import pytest
from PIL import Image

from adapcli.data.dataset import open_dataset
from adapcli.errors import FileError
from adapcli.model.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing
from adapcli.training.schema import Recipe
from adapcli.training.source import open_source

CODES = ("n01440764", "n01443537", "n02085620")
TABLE = ("fit", "tune", "calibration", "test")
STAGES = [{"name": "all", "steps": 3, "axes": ["tokens"]}]
PUBLISHED = Preprocessing.published(224, 3)


def photograph(path, seed, size=(500, 375)):
    """A smooth JPEG of some colour."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path, "JPEG")


@pytest.fixture
def imagenet(tmp_path):
    """train/<code>/*.JPEG and val/<code>/*.JPEG."""
    for number, code in enumerate(CODES):
        for index in range(4):
            photograph(tmp_path / "train" / code / f"{code}_{index}.JPEG", 100 * number + index)
        for index in range(12):
            name = f"ILSVRC2012_val_{number + 3 * index:08d}.JPEG"
            photograph(tmp_path / "val" / code / name, 5000 + 100 * number + index, (75, 60 + index))
    return tmp_path


def in_a_heap(root, write):
    """Moves the pictures of val out of their class folders; write: makes a listing of (name, code) pairs."""
    pairs = []
    for path in sorted((root / "val").rglob("*.JPEG")):
        pairs.append((path.name, path.parent.name))
        path.rename(root / "val" / path.name)
    for code in CODES:
        (root / "val" / code).rmdir()
    write(root, pairs)
    return root


def labels_of(root):
    found = {}
    for split in TABLE:
        data = open_dataset(f"folder:{root}", split=split, preprocessing=PUBLISHED)
        batch = data.batch(0, len(data))
        names = [name.rpartition("/")[2] for name in batch.sample_ids]
        found |= dict(zip(names, batch.targets.tolist(), strict=True))
    return found


def test_pictures_are_preprocessed_as_published(imagenet):
    """Resize 256 bilinear, crop 224, CLIP statistics: on the JPEG as Pillow decodes it."""
    recipe = Recipe(name="x", data=f"folder:{imagenet}", batch=4, model={"image_size": 224}, stages=STAGES)
    source = open_source(recipe)
    preprocessing = source.preprocessing(224, source.channels)
    assert preprocessing == PUBLISHED
    with source.feed(recipe, preprocessing) as feed:
        batch = feed.batch(0)
    assert batch.images.shape == (4, 3, 224, 224)
    for name, image in zip(batch.sample_ids, batch.images, strict=True):
        resized = Image.open(imagenet / name).resize((341, 256), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized.crop((58, 16, 282, 240)), np.float64) / 255
        np.testing.assert_allclose(image.permute(1, 2, 0), (pixels - CLIP_MEAN) / CLIP_STD, atol=1e-6)


def test_classes_are_in_the_order_of_their_codes(imagenet):
    thousand = [f"class {number}" for number in range(3)]
    data = open_dataset(f"folder:{imagenet}", split="train", preprocessing=PUBLISHED, class_names=thousand)
    batch = data.batch(0, len(data))
    assert [name.split("/")[1] for name in batch.sample_ids] == [CODES[target] for target in batch.targets]
    assert labels_of(imagenet) == {f"ILSVRC2012_val_{n:08d}.JPEG": n % 3 for n in range(36)}


def as_val_txt(root, pairs):
    lines = [f"{name} {CODES.index(code)}" for name, code in pairs]
    (root / "val.txt").write_text("\n".join(lines) + "\n")


def as_solution(root, pairs):
    lines = [f"{name.removesuffix('.JPEG')},{code} 85 1 499 272 {code} 1 2 3 4" for name, code in pairs]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines]) + "\n")


def as_annotations(root, pairs):
    (root / "val" / "images").mkdir()
    for name, _ in pairs:
        (root / "val" / name).rename(root / "val" / "images" / name)
    lines = [f"{name}\t{code}\t0\t32\t44\t62" for name, code in pairs]
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("write", [as_val_txt, as_solution, as_annotations])
def test_a_heap_with_a_listing_is_the_same(imagenet, write):
    expected = labels_of(imagenet)
    in_a_heap(imagenet, write)
    (imagenet / "test").mkdir()
    photograph(imagenet / "test" / "ILSVRC2012_test_00000001.JPEG", 1)  # without classes, as it comes
    assert labels_of(imagenet) == expected
    assert len(open_dataset(f"folder:{imagenet}", split="train", preprocessing=PUBLISHED)) == 12


def test_what_is_not_listed_is_skipped(imagenet):
    in_a_heap(imagenet, lambda root, pairs: as_val_txt(root, pairs[:-1]))
    opened = [open_dataset(f"folder:{imagenet}", split=s, preprocessing=PUBLISHED) for s in TABLE]
    skipped = [skip for data in opened for skip in data.skipped]
    assert [(s.path, s.reason) for s in skipped] == [
        ("val/ILSVRC2012_val_00000035.JPEG", "not listed in val.txt")
    ]


@pytest.mark.parametrize(
    ("listing", "told"),
    [
        (None, "no images with classes but for training"),
        ("", "none of the"),
        ("a n00000000\nb n00000001\n", r"val\.txt:2: class 'n00000001': not known"),
        ("a 0\nb 3\n", r"val\.txt:2: class '3': not known"),
    ],
)
def test_a_heap_without_classes_is_refused(imagenet, listing, told):
    def write(root, pairs):
        if listing is not None:
            (root / "val.txt").write_text(listing)

    in_a_heap(imagenet, write)
    with pytest.raises(FileError, match=told):
        labels_of(imagenet)


def test_training_on_it_gives_the_codes_as_classes(imagenet):
    source = open_source(
        Recipe(name="x", data=f"folder:{imagenet}", model={"image_size": 224}, stages=STAGES)
    )
    assert tuple(source.class_names) == CODES
    assert (source.channels, source.samples) == (3, 12)
    tune = source.split("tune", PUBLISHED, 100)
    batch = tune.batch(0, len(tune))
    assert [name.split("/")[1] for name in batch.sample_ids] == [CODES[target] for target in batch.targets]
