"""Pictures for training: every one once an epoch, batches by number, damaged files skipped and counted."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapcli.data.entries import BrokenEntry
from adapcli.data.spec import DataSpec
from adapcli.errors import FileError, UsageError
from adapcli.model.checkpoint import load, packaged
from adapcli.training.feed import BLOCKS_AT_ONCE, _order
from adapcli.training.run import train
from adapcli.training.schema import Recipe
from adapcli.training.source import Pictures, open_source
from adapcli.training.start import start

STAGES = [{"name": "all", "steps": 3, "axes": ["tokens", "depth", "width"]}]


def made(root: Path, *, mode: str = "L", classes: str = "ab", train: int = 6, test: int = 6) -> Path:
    """A folder of noise with folders train, val and test; class a is dark, the others bright."""
    draw = np.random.default_rng(0)
    for part, count in (("train", train), ("val", 3 * test), ("test", test)):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = draw.integers(0, 100, (32, 32, 3)) + 150 * (name != "a")
                image = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
                image.save(root / part / name / f"{index}.png")
    return root


def recipe(root: Path, **changes) -> Recipe:
    model = {} if "start" in changes else {
        "embed_dim": 16, "num_heads": 2, "depth": 2, "max_latent_tokens": 4, "token_granularities": [1, 2, 4],
        "widths": [8, 16], "image_size": 32, "patch_size": 8, "use_embed_ffn": False,
    }  # fmt: skip
    values = {"name": "tiny", "data": f"folder:{root}", "batch": 5, "model": model, "stages": STAGES}
    return Recipe(**{**values, "evaluate_samples": 8, **changes})


def feed_of(chosen: Recipe):
    source = open_source(chosen)
    return source.feed(chosen, source.preprocessing(32, source.channels))


def test_every_picture_once_an_epoch_in_an_order_of_its_own(tmp_path: Path):
    with feed_of(recipe(made(tmp_path), batch=4)) as feed:
        names = [name for number in range(6) for name in feed.batch(number).sample_ids]
    first, second = names[:12], names[12:]
    assert len(set(first)) == 12
    assert set(first) == set(second)
    assert first != second


def test_a_batch_depends_on_its_number_and_the_seed_alone(tmp_path: Path):
    chosen = recipe(made(tmp_path))
    with feed_of(chosen) as feed:
        in_order = [feed.batch(number) for number in range(8)]
    with feed_of(chosen) as feed:
        jumping = {number: feed.batch(number) for number in (7, 2, 3, 0)}
    for number, batch in jumping.items():
        assert batch.sample_ids == in_order[number].sample_ids
        assert torch.equal(batch.images, in_order[number].images)
        assert torch.equal(batch.targets, in_order[number].targets)
    with feed_of(recipe(tmp_path, seed=1)) as feed:
        assert [feed.batch(n).sample_ids for n in range(3)] != [b.sample_ids for b in in_order[:3]]


def test_labels_are_those_of_the_subfolders(tmp_path: Path):
    with feed_of(recipe(made(tmp_path, classes="abc"))) as feed:
        batch = feed.batch(0)
    assert ["abc"[label] for label in batch.targets] == [Path(name).parts[1] for name in batch.sample_ids]


def test_a_damaged_picture_is_counted_and_another_takes_its_place(tmp_path: Path):
    made(tmp_path)
    (tmp_path / "train/a/3.png").write_bytes(b"\x89PNG\r\n\x1a\nthis is none")
    with feed_of(recipe(tmp_path, batch=4)) as feed:
        batches = [feed.batch(number) for number in range(6)]
        assert set(feed.skipped) == {"train/a/3.png"}
    assert all(len(batch.images) == 4 for batch in batches)
    shown = [name for batch in batches for name in batch.sample_ids]
    assert "train/a/3.png" not in shown
    assert len(set(shown)) == 11


def test_a_folder_of_damaged_pictures_ends_it(tmp_path: Path):
    made(tmp_path)
    with feed_of(recipe(tmp_path)) as feed:
        for path in (tmp_path / "train").rglob("*.png"):
            path.write_bytes(b"")
        with pytest.raises(FileError, match=r"\.png: empty file"):
            feed.batch(100)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("I;16", 1), ("RGB", 3), ("P", 3)])
def test_channels_are_the_pictures_own(tmp_path: Path, mode: str, channels: int):
    if mode == "I;16":
        made(tmp_path)
        for path in (tmp_path / "train").rglob("*.png"):
            Image.fromarray(np.zeros((32, 32), np.uint16)).save(path)
    else:
        made(tmp_path, mode=mode)
    assert Pictures(DataSpec(name=f"folder:{tmp_path}")).channels == channels


def test_a_folder_without_training_images_gives_a_share(tmp_path: Path):
    made(tmp_path)
    shutil.rmtree(tmp_path / "train")
    source = open_source(recipe(tmp_path))
    assert source.data.train_share == 0.5
    assert 0 < source.samples < sum(source.counts().values())


def test_training_on_a_folder_learns_its_classes(tmp_path: Path):
    made(tmp_path / "data", mode="RGB", train=10)
    chosen = recipe(tmp_path / "data", optimiser={"learning_rate": 0.01, "warmup_steps": 5, "ema_decay": 0.5},
                    stages=[{**STAGES[0], "steps": 40}], batch=10)  # fmt: skip
    trained = train(chosen, tmp_path / "run")
    assert trained.model.class_names == ("a", "b")
    assert trained.model.config.in_channels == 3
    assert trained.metrics["samples"] == 12
    assert trained.metrics["accuracy_full"] == 1.0


def test_a_head_for_other_classes_is_trained_on_a_frozen_backbone(tmp_path: Path):
    made(tmp_path / "data", mode="RGB", classes="abc", train=10)
    chosen = recipe(
        tmp_path / "data", start="packaged", train=["output_", "write_head"], batch=10,
        stages=[{**STAGES[0], "steps": 40}], optimiser={"learning_rate": 0.02, "ema_decay": 0.5},
    )  # fmt: skip
    told = []
    trained = train(chosen, tmp_path / "run", say=told.append)
    before, after = load(packaged()).state_dict(), load(trained.checkpoint).state_dict()
    (line,) = told
    assert line.endswith("newly made: output_adapter.ffn.weight, output_adapter.ffn.bias")
    assert f"{len(before) - 2} tensors loaded" in line
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"output_adapter", "output_latents", "write_head"}
    assert trained.model.config.num_classes == 3
    assert trained.metrics["accuracy_full"] > 0.6


def test_positions_are_resampled_and_the_rest_kept_for_another_image_size(tmp_path: Path):
    chosen = recipe(made(tmp_path), start="packaged", model={"image_size": 48})
    begun, known = start(chosen, open_source(chosen)), load(packaged())
    assert begun.resampled == ("patch_embed.pos_embed",)
    assert begun.model.preprocessing.size == 48
    assert begun.model.preprocessing.mean == known.preprocessing.mean
    expected = known.patch_embed.positions(6, 6)
    assert torch.equal(begun.model.patch_embed.pos_embed, expected)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": {"num_classes": 7}}, "num_classes 7: .* has 2 classes"),
        ({"model": {"embed_dim": 128, "widths": [128]}}, "no block of the checkpoint has the shape"),
        ({"train": ["wriet_head"]}, "no parameter's name begins with 'wriet_head'"),
        ({"stages": [{"name": "x", "steps": 1, "at": {"tokens": 5}}]}, "tokens"),
        ({"readouts": {"token_weights": [1.0, 2.0]}}, "token_weights: 2 for"),
    ],
)
def test_what_does_not_fit_a_checkpoint_or_the_data_is_told(tmp_path: Path, changes: dict, told: str):
    chosen = recipe(made(tmp_path), **{"start": "packaged", **changes})
    with pytest.raises(UsageError, match=told):
        start(chosen, open_source(chosen))


class Stop(BaseException):
    """Stands for a crash at a chosen moment."""


def test_a_run_on_a_folder_that_crashed_resumes_bit_for_bit(tmp_path: Path):
    made(tmp_path / "data")
    (tmp_path / "data/train/b/1.png").write_bytes(b"none")
    chosen = recipe(tmp_path / "data", stages=[{**STAGES[0], "steps": 9}], save_every=2)

    def crash(done: int, total: int, note: str = "") -> None:
        if done == 5:
            raise Stop

    whole = train(chosen, tmp_path / "whole")
    with pytest.raises(Stop):
        train(chosen, tmp_path / "cut", progress=crash)
    resumed = train(chosen, tmp_path / "cut", resume=True)
    states = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert whole.metrics["skipped"].keys() == {"train/b/1.png"}
    assert whole.metrics["skipped"] == resumed.metrics["skipped"]
    assert set(whole.metrics["skipped"]) == {"train/b/1.png"}


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_that_read_ahead_change_nothing(tmp_path: Path, workers: int):
    made(tmp_path)
    (tmp_path / "train/a/3.png").write_bytes(b"none")
    chosen = recipe(tmp_path)
    source = open_source(chosen)
    preprocessing = source.preprocessing(32, 1)
    with (
        source.feed(chosen, preprocessing) as alone,
        source.feed(chosen, preprocessing, workers=workers) as feed,
    ):
        for number in (0, 1, 2, 3, 9, 4):  # not always the next one
            one, two = alone.batch(number), feed.batch(number)
            assert one.sample_ids == two.sample_ids
            assert torch.equal(one.images, two.images)
            assert torch.equal(one.targets, two.targets)
        assert feed.skipped.items() <= alone.skipped.items()
        assert set(feed.skipped) == {"train/a/3.png"}


def test_scenes_are_the_same_from_other_processes():
    chosen = Recipe(name="x", batch=6, model={"image_size": 16}, stages=STAGES)
    source = open_source(chosen)
    preprocessing = source.preprocessing(16, 1)
    with source.feed(chosen, preprocessing) as alone, source.feed(chosen, preprocessing, workers=2) as feed:
        for number in range(3):
            assert torch.equal(alone.batch(number).images, feed.batch(number).images)


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_damaged_pictures_end_it(tmp_path: Path, workers: int):
    made(tmp_path, train=20)
    for index in range(11):
        (tmp_path / f"train/a/{index}.png").write_bytes(b"none")
    chosen = recipe(tmp_path)
    source = open_source(chosen)
    with (
        source.feed(chosen, source.preprocessing(32, 1), workers=workers) as feed,
        pytest.raises(FileError, match="11 of 40 pictures cannot be read, more than 5%") as caught,
    ):
        list(map(feed.batch, range(40)))
    assert caught.value.hint.startswith("first: train/a/")


def test_pictures_of_a_block_stay_near_one_another():
    class Block(BrokenEntry):
        @property
        def block(self) -> str:
            return self.label

    entries = [Block(str(n), f"{n // 10:02}", "") for n in range(300)]
    order = _order(entries, 0, 1)
    assert sorted(order) == list(range(300))
    assert order.tolist() != _order(entries, 0, 2).tolist()
    size = 10 * BLOCKS_AT_ONCE
    for near in (order[first : first + size] for first in range(0, 3 * size, size)):
        assert len({index // 10 for index in near}) == BLOCKS_AT_ONCE
        assert sorted(near) != near.tolist()


def test_a_run_resumed_with_other_processes_is_the_same(tmp_path: Path):
    made(tmp_path / "data")
    (tmp_path / "data/train/b/1.png").write_bytes(b"none")
    chosen = recipe(tmp_path / "data", stages=[{**STAGES[0], "steps": 4}], save_every=1)

    def crash(done: int, total: int, note: str = "") -> None:
        if done == 3:  # in the middle of the second epoch; the last batch meets no damaged picture
            raise Stop

    with feed_of(chosen) as feed:
        assert feed.batch(3)
        assert not feed.skipped
    whole = train(chosen, tmp_path / "whole")
    with pytest.raises(Stop):
        train(chosen, tmp_path / "cut", progress=crash, workers=2)
    resumed = train(chosen, tmp_path / "cut", resume=True, workers=1)
    states = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert whole.metrics["skipped"].keys() == {"train/b/1.png"}
    assert whole.metrics["skipped"] == resumed.metrics["skipped"]
