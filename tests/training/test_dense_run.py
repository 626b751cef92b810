"""Recipes of dense tasks: data to checkpoint, interrupted, from a checkpoint, and what does not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapcli.data.dataset import open_dataset
from adapcli.errors import FileError, UsageError
from adapcli.evaluation.dense.tasks import dense_task
from adapcli.model.checkpoint import load, save
from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.run import acting_as
from adapcli.space import Configuration
from adapcli.training.dense_grid import dense_scores
from adapcli.training.dryrun import plan
from adapcli.training.recipe import check_fit, load_recipe
from adapcli.training.run import train, write_card
from adapcli.training.schema import Recipe
from adapcli.training.source import open_source
from adapcli.training.start import start

MODEL = {
    "embed_dim": 16, "num_heads": 2, "depth": 3, "max_latent_tokens": 4, "token_granularities": [1, 2, 4],
    "widths": [8, 16], "image_size": 16, "patch_size": 4, "use_embed_ffn": False, "layer_scale_init": 0.5,
    "token_init_std": 0.5, "output_feat_dim": 12,
}  # fmt: skip
TASKS = {
    "segmentation": {"task": "segmentation"},
    "depth": {"task": "depth", "num_bins": 8, "min_depth": 1.0, "max_depth": 11.0},
    "centres": {"task": "centres"},
}
METRICS = {
    "segmentation": ["miou", "pixel_accuracy"],
    "depth": ["rmse", "abs_rel", "delta_1"],
    "centres": ["endpoint_error", "near"],
}
IN_FOLDERS = ("segmentation", "depth")


def recipe(task: str, model: dict | None = None, **changes) -> Recipe:
    values = {
        "name": "tiny",
        "model": {**MODEL, **TASKS[task], **(model or {})},
        "batch": 6,
        "stages": [{"name": "all", "steps": 4, "axes": ["tokens", "depth", "width"]}],
        "readouts": {"tokens": 2, "blocks": 1},
        "log_every": 1,
        "evaluate_samples": 8,
    }
    return Recipe(**{**values, **changes})


class Stop(BaseException):
    """Stands for Ctrl-C at a chosen moment."""


def stop_after_two(done: int, total: int, note: str = "") -> None:
    if done == 2:
        raise Stop


@pytest.mark.parametrize("task", sorted(TASKS))
def test_from_scenes_to_a_checkpoint_and_a_card(tmp_path: Path, task: str):
    trained = train(recipe(task), tmp_path, test_samples=10)
    model, metrics = load(trained.checkpoint), trained.metrics
    assert model.config.task == task
    assert metrics["metric"] == METRICS[task][0]
    assert len(metrics["grid"]) == len(model.config.space) == 3 * 2 * 3
    assert all(f"{metric}_{corner}" in metrics for metric in METRICS[task] for corner in ("full", "cheapest"))
    names = ("background", *map(str, range(10))) if task == "segmentation" else ()
    assert model.class_names == names
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert f"{METRICS[task][0]}_fewest_tokens" in lines[-1]
    with acting_as("train", "--set", "batch=8", "--data", "my scenes"):
        write_card(metrics, tmp_path / "card.md")
    assert "made by `adap train --set batch=8 --data 'my scenes'` with" in (tmp_path / "card.md").read_text()
    assert f"| configuration | {METRICS[task][0]} |" in (tmp_path / "card.md").read_text()


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_run_interrupted_and_resumed_equals_an_uninterrupted_one(tmp_path: Path, task: str):
    chosen = recipe(
        task, save_every=1, augment={"colour": 0.5} if task == "centres" else {"crop": 0.5, "flip": 0.5}
    )
    train(chosen, tmp_path / "whole", test_samples=4)
    with pytest.raises(Stop):
        train(chosen, tmp_path / "cut", test_samples=4, progress=stop_after_two)
    train(chosen, tmp_path / "cut", resume=True, test_samples=4)
    whole, cut = (load(tmp_path / name / "model.pt").state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_scores_of_the_grid_are_those_of_each_configuration_alone(tmp_path: Path, task: str):
    model = start(recipe(task), open_source(recipe(task))).model.eval()
    data = open_dataset("digits", split="tune", preprocessing=model.preprocessing, limit=9, task=task)
    asked = list(model.config.space)
    found = dense_scores(model, data, asked)
    batch = data.batch(0, 9)
    for configuration, scores in zip(asked, found, strict=True):
        with torch.no_grad():
            maps = model(batch.images, configuration).maps
        if task == "depth":
            error = maps[:, 0].double() - batch.targets
            ratio = torch.maximum(maps[:, 0] / batch.targets, batch.targets / maps[:, 0])
            assert scores["rmse"] == pytest.approx(error.square().mean().sqrt().item(), rel=1e-5)
            assert scores["abs_rel"] == pytest.approx((error.abs() / batch.targets).mean().item(), rel=1e-5)
            assert scores["delta_1"] == pytest.approx((ratio < 1.25).double().mean().item(), abs=1e-6)
        elif task == "centres":
            error = (maps - batch.targets).norm(dim=1)[~batch.targets[:, 0].isnan()].double()
            assert scores["endpoint_error"] == pytest.approx(error.mean().item(), rel=1e-5)
            assert scores["near"] == pytest.approx((error <= 2).double().mean().item(), abs=1e-6)
        else:
            answer, ious = maps.argmax(1), []
            for label in range(11):
                a, b = answer == label, batch.targets == label
                if (a | b).any():
                    ious.append(((a & b).sum() / (a | b).sum()).item())
            assert scores["miou"] == pytest.approx(np.mean(ious), rel=1e-5)
            assert scores["pixel_accuracy"] == pytest.approx((answer == batch.targets).double().mean().item())
    assert dense_task(model.config, 16).score_name


def test_training_learns_what_is_in_front(tmp_path: Path):
    fast = {"learning_rate": 5e-3, "warmup_steps": 5, "ema_decay": 0.9, "schedule": "poly"}
    stages = [{"name": "full", "steps": 60}]
    trained = train(
        recipe("segmentation", stages=stages, batch=32, optimiser=fast), tmp_path, test_samples=32
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert lines[-1]["learning_rate"] < 2e-4
    assert trained.metrics["pixel_accuracy_full"] > 0.7


def test_a_new_decoder_learns_on_a_frozen_backbone(tmp_path: Path):
    base = train(recipe("segmentation"), tmp_path / "base", test_samples=4).checkpoint
    changed = {"task": "segmentation", "decoder": "conv", "decoder_dim": 8, "decoder_stages": 1}
    frozen = recipe("segmentation", start=str(base), train=["head."]).model_copy(update={"model": changed})
    told: list[str] = []
    made = train(frozen, tmp_path / "frozen", test_samples=4, say=told.append).checkpoint
    before, after = load(base).state_dict(), load(made).state_dict()
    shared = [name for name in before if not name.startswith("head.")]
    assert all(torch.equal(before[name], after[name]) for name in shared)
    assert "newly made: head.decoder.norm.weight" in told[0]
    assert load(made).config.decoder == "conv"
    again = start(frozen, open_source(frozen)).model.state_dict()
    assert not torch.equal(again["head.classes.weight"], after["head.classes.weight"])


def test_what_a_distilled_model_writes_features_with_is_taken_over(tmp_path: Path):
    torch.manual_seed(0)
    config = ModelConfig.from_dict({**MODEL, "task": "distillation", "num_classes": 7, "in_channels": 1})
    distilled = AdaPerceiver(config)
    save(distilled, tmp_path / "distilled.pt")
    changed = {"task": "segmentation", "use_output_ffn": True}
    dense = recipe("segmentation", start=str(tmp_path / "distilled.pt"), train=["head."])
    begun = start(dense.model_copy(update={"model": changed}), open_source(dense))
    assert all(name.startswith("head.") for name in begun.made)
    x = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(begun.model.eval()(x).features, distilled.eval()(x).features)


def test_a_dense_checkpoint_needs_its_task_in_the_recipe(tmp_path: Path):
    base = train(recipe("depth"), tmp_path, test_samples=4).checkpoint
    silent = recipe("depth", start=str(base)).model_copy(update={"model": {}})
    with pytest.raises(UsageError, match="is for depth") as caught:
        start(silent, open_source(silent))
    assert "model.task=depth" in caught.value.hint


WRONG = {
    "mixup": ("segmentation", {"augment": {"mixup": 1.0}}, "augment.mixup: does not do to masks"),
    "randaugment": ("depth", {"augment": {"randaugment": 2}}, "augment.randaugment: .* depth maps"),
    "distillation": ("segmentation", {"loss": {"distillation": 1}, "teacher": {"source": "self"}}, "alone"),
    "features": ("depth", {"loss": {"features": 1}, "teacher": {"source": "self"}}, "loss.features: models"),
    "smoothing": ("depth", {"loss": {"label_smoothing": 0.1}}, "depths are no classes"),
    "smoothed": ("centres", {"loss": {"label_smoothing": 0.1}}, "offsets are no classes"),
    "flip": ("centres", {"augment": {"flip": 0.5}}, "augment.flip: offsets to centres would be others"),
    "crop": ("centres", {"augment": {"crop": 0.5}}, "augment.crop: offsets"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_maps_cannot_learn_from_is_refused(case: str):
    task, changes, message = WRONG[case]
    chosen = recipe(task, **changes)
    with pytest.raises(UsageError, match=message):
        check_fit(chosen, chosen.model_for(11, 1))


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_plan_tells_the_shapes_of_maps(task: str):
    stage = plan(recipe(task)).stages[0]
    channels = {"segmentation": 11, "depth": 1, "centres": 2}[task]
    assert stage.token_logits == (6, 2, channels, 16, 16)
    assert stage.depth_logits == (6, 1, channels, 16, 16)
    assert stage.forward_flops > 0


def test_packaged_recipes_of_dense_tasks_can_be_planned():
    for name in ("digits-segmentation", "digits-depth", "digits-centres"):
        assert plan(load_recipe(name)).config.task == name.removeprefix("digits-")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ade20k-segmentation", "nyuv2-depth"])
def test_published_recipes_can_be_planned_without_their_data(name: str):
    found = plan(load_recipe(name, ["batch=1", "readouts.tokens=1", "readouts.blocks=1"]))
    assert found.config.task == name.partition("-")[2]
    assert found.trained < 0.03 * found.parameters
    assert {note.partition(":")[0] for note in found.notes} == {"data", "start"}


@pytest.fixture
def folder(tmp_path: Path):
    """Pictures with masks and with depth maps, in parts."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 40), ("test", 6)):
        for i in range(count):
            values = {
                "images": rng.integers(0, 256, (18, 20, 3), np.uint8),
                "masks": rng.integers(0, 3, (18, 20), np.uint8),
                "depth": rng.integers(1, 10_000, (18, 20)).astype(np.uint16),
            }
            for kind, array in values.items():
                (tmp_path / "data" / kind / part).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(tmp_path / "data" / kind / part / f"{i}.png")
    return tmp_path / "data"


def from_folder(task: str, folder: Path, **changes) -> Recipe:
    return recipe(task, data=f"folder:{folder}", augment={"crop": 0.5, "flip": 0.5}, **changes)


@pytest.mark.parametrize("task", IN_FOLDERS)
def test_training_on_a_folder(tmp_path: Path, folder: Path, task: str):
    (folder / "images/train/3.png").write_bytes(b"broken")
    trained = train(from_folder(task, folder), tmp_path / "run", test_samples=6)
    assert trained.metrics["skipped"].keys() == {"images/train/3.png"}
    assert trained.metrics["samples"] == 6
    assert load(trained.checkpoint).config.in_channels == 3
    assert trained.model.class_names == (("0", "1", "2") if task == "segmentation" else ())
    answer = trained.model(torch.randn(1, 3, 16, 16), Configuration(1, 8, 1)).maps
    assert answer.shape == (1, 3 if task == "segmentation" else 1, 16, 16)


def test_folders_have_no_centres(folder: Path):
    with pytest.raises(UsageError, match="has no centres"):
        open_source(from_folder("centres", folder))


def test_batches_of_a_folder_are_the_same_whatever_was_asked_for_before(folder: Path):
    chosen = from_folder("segmentation", folder)
    source = open_source(chosen)
    preprocessing = start(chosen, source).model.preprocessing
    with source.feed(chosen, preprocessing) as feed:
        in_order = [feed.batch(number) for number in range(4)]
    with source.feed(chosen, preprocessing) as feed:
        alone = feed.batch(3)
        feed.rows = range(2, 4)
        part = feed.batch(1000)
    assert alone.sample_ids == in_order[3].sample_ids
    assert torch.equal(alone.targets, in_order[3].targets)
    assert sorted(in_order[0].sample_ids + in_order[1].sample_ids) == sorted(
        f"images/train/{i}.png" for i in range(12)
    )
    assert len(part.sample_ids) in (2, 6)


def test_a_wrong_mask_stops_the_run_and_names_the_file(tmp_path: Path, folder: Path):
    Image.fromarray(np.full((18, 20), 7, np.uint8)).save(folder / "masks/train/5.png")
    with pytest.raises(FileError, match=r"masks/train/5\.png: class 7, there are 3"):
        train(from_folder("segmentation", folder, model={"num_classes": 3}), tmp_path / "run", test_samples=6)


def test_the_scale_of_depths_is_the_recipes(folder: Path):
    chosen = from_folder("depth", folder, depth_scale=500.0)
    source = open_source(chosen)
    one = source.split("test", start(chosen, source).model.preprocessing, 6).batch(0, 6)
    usual = open_source(from_folder("depth", folder))
    other = usual.split("test", start(chosen, source).model.preprocessing, 6).batch(0, 6)
    torch.testing.assert_close(one.targets, 2 * other.targets)
    assert source.fingerprint != usual.fingerprint


def test_a_folder_without_a_part_to_train_on_gives_a_share(tmp_path: Path, folder: Path):
    (folder / "images/train").rename(tmp_path / "elsewhere")
    source = open_source(from_folder("segmentation", folder))
    assert source.data.train_share == 0.5
    others = open_dataset(
        source.data,
        split="fit",
        preprocessing=source.preprocessing(16, 3),
        task="segmentation",
        class_names=source.class_names,
    )
    assert not set(source.keys()) & set(others.keys)
