"""Teachers say what a direct call says, they never change, and those that cannot teach are refused."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from adapcli.data.dataset import Batch
from adapcli.errors import FileError, UsageError
from adapcli.model.checkpoint import load, packaged, save
from adapcli.model.preprocessing import Preprocessing
from adapcli.space import Configuration
from adapcli.training.journal import read_lines
from adapcli.training.loop import Trainer
from adapcli.training.run import train
from adapcli.training.schema import Recipe
from adapcli.training.teacher import open_teacher, prepared

STEPS = [{"name": "all", "steps": 4}]
DENSE = {"task": "features", "num_classes": None}
LOGITS = {"labels": 0, "distillation": 1}


def recipe(source: str, loss=None, at=(), dtype="float32", **changes) -> Recipe:
    teacher = {"source": source, "at": dict(at), "dtype": dtype}
    values = {"name": "taught", "model": {"depth": 3}, "batch": 8, "stages": STEPS, "loss": loss or LOGITS}
    return Recipe(**{**values, **changes}, teacher=teacher)


def taught_by(path, student, loss=None, **changes):
    return open_teacher(recipe(f"ckpt:{path}", loss, **changes), student, lambda: student)


@pytest.fixture
def saved(tmp_path: Path, make_model):
    def saved(**changed):
        save(make_model(seed=5, **changed), tmp_path / "teacher.pt")
        return tmp_path / "teacher.pt"

    return saved


def test_a_checkpoint_says_what_a_direct_call_says(saved, make_model):
    path, images = saved(depth=2), torch.randn(3, 1, 16, 16)
    answer = taught_by(path, make_model())(images)
    with torch.no_grad():
        assert torch.equal(answer.logits, load(path)(images).logits)
    assert answer.features is None
    assert not answer.logits.requires_grad


def test_it_runs_the_configuration_asked_for(saved, make_model):
    path, images = saved(), torch.randn(3, 1, 16, 16)
    answer = taught_by(path, make_model(), at={"tokens": 2, "depth": 1})(images)
    with torch.no_grad():
        assert torch.equal(answer.logits, load(path)(images, Configuration(2, 24, 1)).logits)


def test_a_configuration_it_does_not_have_is_refused(saved, make_model):
    with pytest.raises(UsageError, match="tokens 3"):
        taught_by(saved(), make_model(), at={"tokens": 3})


def test_features_are_resampled_to_the_students_patches(saved, make_model):
    features = {**DENSE, "output_feat_dim": 12}
    path = saved(**features, patch_size=4)
    images, loss = torch.randn(3, 1, 16, 16), {"labels": 0, "features": 1}
    answer = taught_by(path, make_model(**features), loss)(images)
    with torch.no_grad():
        fine = load(path)(images).features.transpose(1, 2).reshape(3, 12, 4, 4)
    coarse = interpolate(fine, size=(2, 2), mode="bilinear", antialias=True)
    torch.testing.assert_close(answer.features, coarse.flatten(2).transpose(1, 2))
    assert answer.logits is None
    same = taught_by(saved(**features), make_model(**features), loss)(images)
    with torch.no_grad():
        assert torch.equal(same.features, load(path)(images).features)


def test_a_teacher_may_compute_in_bfloat16_and_still_answers_in_float32(saved, make_model):
    path, images = saved(), torch.randn(3, 1, 16, 16)
    exact, rough = (taught_by(path, make_model(), dtype=d)(images) for d in ("float32", "bfloat16"))
    assert rough.logits.dtype == torch.float32
    assert not torch.equal(exact.logits, rough.logits)
    torch.testing.assert_close(exact.logits, rough.logits, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("teacher", "loss", "message"),
    [
        ({"num_classes": 9}, {"labels": 0, "distillation": 1}, "9 classes, the student has 7"),
        ({}, {"features": 1}, "gives no patch features"),
        (
            {"task": "features", "output_feat_dim": 5, "num_classes": None},
            {"distillation": 1},
            "gives no logits",
        ),
        (
            {"task": "distillation", "output_feat_dim": 5},
            {"features": 1},
            "5 feature channels, .* gives 12",
        ),
        ({"class_names": list("abcdefx")}, {"distillation": 1}, "'x' where the student has 'g'"),
    ],
)
def test_a_teacher_that_cannot_teach_this_student_is_refused(saved, make_model, teacher, loss, message):
    student = make_model(task="distillation", output_feat_dim=12, class_names=list("abcdefg"))
    with pytest.raises(UsageError, match=message):
        taught_by(saved(**teacher), student, loss)


def test_images_of_colours_are_not_shown_to_a_teacher_of_grey_ones(saved, make_model):
    student = make_model()
    student.preprocessing = Preprocessing(16, 16, (0.2,) * 3, (0.4,) * 3)
    with pytest.raises(UsageError, match="sees 1 channels, the student's images have 3"):
        taught_by(saved(), student)


def test_a_missing_checkpoint_is_named(make_model, tmp_path):
    with pytest.raises(FileError, match=r"absent\.pt"):
        taught_by(tmp_path / "absent.pt", make_model())


def test_no_teacher_is_opened_for_losses_that_need_none(make_model):
    assert open_teacher(recipe("ckpt:absent.pt", {"labels": 1}), make_model(), None) is None


def test_images_are_shown_as_the_teacher_was_trained():
    student = Preprocessing(16, 16, (0.2,), (0.4,))
    pixels = torch.rand(2, 1, 16, 16)
    shown = (pixels - 0.2) / 0.4
    assert prepared(shown, student, student) is shown
    colour = Preprocessing(16, 16, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    mean, std = torch.tensor(colour.mean)[:, None, None], torch.tensor(colour.std)[:, None, None]
    torch.testing.assert_close(prepared(shown, student, colour), (pixels - mean) / std)
    larger = prepared(shown, student, Preprocessing(24, 24, (0.5,), (0.5,)))
    by_hand = interpolate(pixels, size=(24, 24), mode="bilinear", antialias=True)
    torch.testing.assert_close(larger, (by_hand - 0.5) / 0.5)


class Noise:
    """A feed of noise; the labels say nothing."""

    def batch(self, number: int) -> Batch:
        generator = torch.Generator().manual_seed(number)
        return Batch(torch.randn(8, 1, 16, 16, generator=generator), torch.zeros(8, dtype=torch.int64), [])


def trainer(chosen: Recipe, student: nn.Module, folder: Path) -> Trainer:
    made = Trainer(chosen, student, Noise(), folder, lambda model: {})
    made.teach = open_teacher(chosen, student, lambda: made.optimisation.averaged)
    return made


def test_a_student_learns_a_teachers_answers_and_the_teacher_stays_as_it_was(saved, make_model, tmp_path):
    fast = {"learning_rate": 1e-2, "warmup_steps": 1, "ema_decay": 0.0}
    chosen = recipe(
        f"ckpt:{saved()}",
        stages=[{"name": "all", "steps": 60}],
        optimiser=fast,
        log_every=10,
        save_every=1000,
    )
    made = trainer(chosen, make_model(seed=1), tmp_path)
    images = Noise().batch(10**6).images
    before = made.teach(images).logits
    made.run()
    losses = [line["loss"] for line in read_lines(tmp_path / "metrics.jsonl") if "loss" in line]
    assert losses[-1] < 0.5 * losses[0]
    assert torch.equal(made.teach(images).logits, before)
    assert made.teach.backbone.answer(images)[0].requires_grad is False


def test_a_run_teaches_itself_by_its_averaged_weights(make_model, tmp_path):
    chosen = recipe("self", {"labels": 1, "distillation": 1}, optimiser={"ema_decay": 0.5})
    made = trainer(chosen, make_model(seed=1), tmp_path)
    images = torch.randn(3, 1, 16, 16)
    first = made.teach(images).logits
    made.run()
    last = made.teach(images).logits
    with torch.no_grad():
        assert torch.equal(last, made.optimisation.averaged(images).logits)
        assert not torch.equal(last, made.model(images).logits)
    assert not torch.equal(first, last)
    assert all(p.grad is None for p in made.optimisation.averaged.parameters())


def test_the_teacher_is_asked_once_per_batch(saved, make_model, tmp_path):
    stages = [{"name": "all", "steps": 3, "axes": ["width"]}]
    chosen = recipe(f"ckpt:{saved()}", stages=stages, readouts={"width": "explicit"}, accumulate=2)
    made = trainer(chosen, make_model(), tmp_path)
    asked, teach = [], made.teach
    made.teach = lambda images: asked.append(len(images)) or teach(images)
    made.run()
    assert asked == [8] * 6  # 3 widths a batch, 2 batches a step


@pytest.mark.parametrize("source", ["ckpt:packaged", "self"])
def test_a_recipe_with_a_teacher_trains_on_digits(tmp_path, source):
    """A student with the packaged trunk and a head to be learnt, which takes few steps."""
    fast = {"learning_rate": 1e-2, "warmup_steps": 1, "ema_decay": 0.5, "schedule": "constant"}
    loss = {"labels": 0 if source != "self" else 1, "distillation": 1, "temperature": 2}
    values = {"start": "packaged", "model": {"use_output_ffn": True}, "train": ["output_adapter"]}
    values |= {"batch": 32, "loss": loss, "optimiser": fast, "log_every": 5}
    values |= {"stages": [{"name": "all", "steps": 30, "axes": ["tokens", "depth", "width"]}]}
    train(recipe(source, **values, evaluate_samples=8), tmp_path, test_samples=8)
    losses = [line["loss"] for line in read_lines(tmp_path / "metrics.jsonl") if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]


def test_the_packaged_checkpoint_teaches_by_what_it_answers():
    student, images = copy.deepcopy(load(packaged())), torch.randn(2, 1, 32, 32)
    answer = taught_by("packaged", student)(images)
    with torch.no_grad():
        assert torch.equal(answer.logits, student(images).logits)
