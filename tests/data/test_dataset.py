"""What every data set keeps to, and how one is opened by name."""

import functools
import operator
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from adapcli.data.dataset import DIGITS_SIZES, SPLITS, open_dataset
from adapcli.data.digits import DigitsDataset
from adapcli.data.placement import SceneSpec
from adapcli.errors import FileError, UsageError
from adapcli.model.preprocessing import Preprocessing

GREY = Preprocessing(24, 24, (0.2,), (0.5,))
COLOUR = Preprocessing(24, 24, (0.2, 0.3, 0.4), (0.5, 0.6, 0.7))
TABLE = ("fit", "tune", "calibration", "test")


class DatasetContract:
    """Tests that every data set inherits."""

    @pytest.fixture
    def name(self):
        raise NotImplementedError

    def open(self, name, **options):
        return open_dataset(name, **({"split": "test", "preprocessing": GREY, "limit": 60} | options))

    def test_any_cut_gives_the_same_samples(self, name):
        data = self.open(name)
        whole = data.batch(0, len(data))
        cuts = [data.batch(start, min(start + 7, len(data))) for start in range(0, len(data), 7)]
        assert torch.equal(torch.cat([cut.images for cut in cuts]), whole.images)
        assert torch.equal(torch.cat([cut.targets for cut in cuts]), whole.targets)
        assert functools.reduce(operator.iadd, [cut.sample_ids for cut in cuts], []) == whole.sample_ids

    def test_opened_twice_gives_the_same(self, name):
        one, two = self.open(name), self.open(name)
        assert torch.equal(one.batch(0, 20).images, two.batch(0, 20).images)
        assert one.fingerprint == two.fingerprint

    @pytest.mark.parametrize("preprocessing", [GREY, COLOUR])
    def test_shapes_and_types(self, name, preprocessing):
        data = self.open(name, preprocessing=preprocessing)
        batch = data.batch(3, 8)
        assert batch.images.shape == (5, len(preprocessing.mean), 24, 24)
        assert batch.images.dtype == torch.float32
        assert batch.targets.shape == (5,)
        assert batch.targets.dtype == torch.int64
        assert 0 <= batch.targets.min() <= batch.targets.max() < len(data.class_names)

    def test_images_are_normalised(self, name):
        plain = (
            self.open(name, preprocessing=Preprocessing(24, 24, (0.0,) * 3, (1.0,) * 3)).batch(0, 9).images
        )
        normal = self.open(name, preprocessing=COLOUR).batch(0, 9).images
        mean, std = (torch.tensor(v)[:, None, None] for v in (COLOUR.mean, COLOUR.std))
        torch.testing.assert_close(normal, (plain - mean) / std)

    def test_sample_ids_differ_across_all_splits(self, name):
        batches = [
            (data, data.batch(0, len(data))) for data in (self.open(name, split=split) for split in TABLE)
        ]
        names = [sample for _, batch in batches for sample in batch.sample_ids]
        assert len(names) == len(set(names))

    def test_fingerprints_differ_by_split_seed_and_limit(self, name):
        kinds = [{}, {"split": "tune"}, {"seed": 1}, {"limit": 10}]
        assert len({self.open(name, **kind).fingerprint for kind in kinds}) == len(kinds)

    def test_the_fingerprint_ignores_normalisation(self, name):
        other = Preprocessing(24, 24, (0.0,), (1.0,))
        assert self.open(name, preprocessing=other).fingerprint == self.open(name).fingerprint

    def test_a_limit_is_an_upper_bound(self, name):
        assert len(self.open(name, limit=10)) == 10
        assert len(self.open(name, limit=10**9)) == len(self.open(name, limit=None))

    @pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 0), (5, 3), (0, 61)])
    def test_a_range_outside_is_refused(self, name, start, stop):
        data = self.open(name)
        stop = len(data) + 1 if stop == 61 else stop
        with pytest.raises(IndexError, match="samples"):
            data.batch(start, stop)


class TestDigits(DatasetContract):
    @pytest.fixture
    def name(self):
        return "digits"

    @pytest.mark.parametrize("split", SPLITS)
    def test_sizes(self, split):
        assert len(open_dataset("digits", split=split, preprocessing=GREY)) == DIGITS_SIZES[split]

    def test_sizes_of_the_issue(self):
        assert [DIGITS_SIZES[split] for split in TABLE] == [12_000, 4_000, 8_000, 20_000]

    def test_another_specification_has_another_fingerprint(self):
        one, two = (DigitsDataset("test", GREY, size=9, spec=SceneSpec(clutter=n)) for n in (1, 2))
        assert one.fingerprint != two.fingerprint

    def test_difficulty_belongs_to_the_samples(self):
        data = open_dataset("digits", split="test", preprocessing=GREY)
        record = data.difficulty(100, 110)
        np.testing.assert_array_equal(record["digits"], data.difficulty(0, 200)["digits"][100:110])

    def test_the_training_split_is_augmented(self):
        data = open_dataset("digits", split="train", preprocessing=GREY)
        assert data.scenes.scans.glyphs.shape[1] > 1


class SourceContract(DatasetContract):
    """What every source of pictures keeps to besides: it holds those of `every_picture`."""

    def test_every_picture_is_in_exactly_one_split_as_it_is(self, name, every_picture):
        plain = Preprocessing(9, 9, (0.0,) * 3, (1.0,) * 3)
        splits = [self.open(name, split=split, preprocessing=plain, limit=None) for split in TABLE]
        whole = [data.batch(0, len(data)) for data in splits]
        found = sorted(
            (target, image.tobytes())
            for batch in whole
            for target, image in zip(batch.targets.tolist(), batch.images.numpy(), strict=True)
        )
        middle = [(label, array[:, 1:10].transpose(2, 0, 1)) for label, _, array in every_picture]
        expected = sorted((label, (a.astype(np.float32) / np.float32(255)).tobytes()) for label, a in middle)
        assert found == expected
        assert {tuple(data.class_names) for data in splits} == {("ape", "bee", "cow")}

    def test_classes_follow_the_model_by_name(self, name):
        mine = self.open(name)
        theirs = self.open(name, class_names=["cow", "eel", "ape", "bee"])
        order = torch.tensor([2, 3, 0])
        assert torch.equal(order[mine.batch(0, 50).targets], theirs.batch(0, 50).targets)
        with pytest.raises(FileError, match="unknown to the model: 'bee'"):
            self.open(name, class_names=["ape", "cow", "eel", "emu"])

    def test_a_beginning_mixes_the_classes(self, name):
        counts = torch.bincount(self.open(name, limit=45).batch(0, 45).targets)
        assert counts.min() >= 5

    def test_it_can_be_sent_to_another_process(self, name):
        data = self.open(name)
        other = pickle.loads(pickle.dumps(data))
        assert torch.equal(data.batch(3, 17).images, other.batch(3, 17).images)

    def test_nothing_is_skipped(self, name):
        assert self.open(name).skipped == []

    def test_there_is_nothing_to_train_on(self, name):
        with pytest.raises(FileError, match=r"no (folder|part) 'train' in it"):
            self.open(name, split="train")


class TestFolder(SourceContract):
    @pytest.fixture
    def name(self, picture_folder):
        return f"folder:{picture_folder}"


class TestNpz(SourceContract):
    @pytest.fixture
    def name(self, picture_npz):
        return f"npz:{picture_npz}"


class TestShards(SourceContract):
    @pytest.fixture
    def name(self, picture_shards):
        return f"webdataset:{picture_shards}"

    @pytest.mark.parametrize("split", TABLE)
    def test_splits_are_those_of_the_same_files_in_a_folder(self, name, picture_folder, split):
        files, shards = (self.open(n, split=split) for n in (f"folder:{picture_folder}", name))
        assert torch.equal(files.batch(0, len(files)).images, shards.batch(0, len(shards)).images)


class TestSaved(SourceContract):
    @pytest.fixture
    def name(self, picture_saved):
        return f"hf:{picture_saved}"


class TestTables(SourceContract):
    @pytest.fixture
    def name(self, picture_tables):
        return f"hf:{picture_tables}"


@pytest.mark.parametrize("split", ["val", "", "Test"])
def test_an_unknown_split_is_refused(split):
    with pytest.raises(UsageError, match="split"):
        open_dataset("digits", split=split, preprocessing=GREY)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit):
    with pytest.raises(UsageError, match="limit"):
        open_dataset("digits", split="test", preprocessing=GREY, limit=limit)


def test_digits_cannot_be_split_otherwise():
    with pytest.raises(UsageError, match="digits has splits of its own"):
        open_dataset("digits", split="test", preprocessing=GREY, split_by="ratio")


def test_digits_has_as_many_scenes_as_asked_for():
    sizes = {}
    for split in ("fit", "tune", "calibration", "test"):
        sizes[split] = len(open_dataset("digits", split=split, preprocessing=GREY, split_by="70000:9:8:7"))
    assert sizes == {"fit": 70000, "tune": 9, "calibration": 8, "test": 7}
    assert (
        len(open_dataset("digits", split="fit", preprocessing=GREY, split_by="70000:9:8:7", limit=50)) == 50
    )
    usual = open_dataset("digits", split="test", preprocessing=GREY)
    more = open_dataset("digits", split="test", preprocessing=GREY, split_by="9:9:9:60000")
    assert torch.equal(usual.batch(19_000, 19_010).images, more.batch(19_000, 19_010).images)


def test_an_unknown_name_says_what_to_write(tmp_path):
    with pytest.raises(UsageError, match="'digit': not known") as caught:
        open_dataset("digit", split="test", preprocessing=GREY)
    assert "digits, or folder:PATH" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        open_dataset(str(tmp_path), split="test", preprocessing=GREY)
    assert caught.value.hint == f"write folder:{tmp_path}"


def test_an_empty_path_is_refused(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match="no images found"):
        open_dataset("folder:", split="test", preprocessing=GREY)


def test_importing_the_room_is_light():
    """scikit-learn and Pillow come with the first data set that needs them."""
    code = "import adapcli.data.dataset, adapcli.data.scenes, adapcli.data.features, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sklearn", "PIL", "scipy", "pandas"} & set(done.stdout.split())


DENSE = {"segmentation": torch.int64, "depth": torch.float32}


@pytest.mark.parametrize("task", sorted(DENSE))
def test_dense_targets_are_those_of_the_very_same_pictures(task):
    plain = open_dataset("digits", split="tune", preprocessing=GREY, limit=300)
    dense = open_dataset("digits", split="tune", preprocessing=GREY, limit=300, task=task)
    a, b = plain.batch(7, 290), dense.batch(7, 290)
    assert torch.equal(a.images, b.images)
    assert a.sample_ids == b.sample_ids
    assert b.targets.shape == (283, 24, 24)
    assert b.targets.dtype == DENSE[task]
    assert dense.fingerprint != plain.fingerprint
    again = open_dataset("digits", split="tune", preprocessing=GREY, limit=300, task=task)
    assert dense.fingerprint == again.fingerprint


def test_masks_name_the_highest_digit_that_the_scene_is_labelled_with():
    dense = open_dataset("digits", split="tune", preprocessing=GREY, limit=200, task="segmentation")
    labels = open_dataset("digits", split="tune", preprocessing=GREY, limit=200).batch(0, 200).targets
    assert dense.class_names == ["background", *map(str, range(10))]
    highest = dense.batch(0, 200).targets.amax((1, 2)) - 1
    # A digit may be too faint in ink, or be covered, and then has no pixel of its own.
    assert (highest <= labels).all()
    assert (highest == labels).float().mean() > 0.98
