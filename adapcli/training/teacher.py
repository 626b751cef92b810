"""Whom a student learns from: another checkpoint, its own averaged weights, or a model of another library.

B batch, K classes, F feature channels, P patches.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from adapcli.errors import UsageError
from adapcli.model.checkpoint import load, packaged
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.precision import autocast, resolve_dtype
from adapcli.model.preprocessing import Preprocessing
from adapcli.training.backbones import Backbone, load_hf, load_timm
from adapcli.training.losses import Answer
from adapcli.training.schema import Fixed, Recipe, Teacher


@dataclass(frozen=True)
class Taught:
    """What a teacher says of a student's images; called once per batch, without gradients."""

    backbone: Backbone
    student: Preprocessing
    patch_size: int
    dtype: str

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Answer:
        """Images (B, C, H, W) normalised for the student -> logits (B, K), features (B, P, F), float32.

        Features are resampled to the student's grid of patches, bilinearly.
        """
        with autocast(images.device, resolve_dtype(self.dtype, images.device)):
            logits, features = self.backbone.answer(
                prepared(images, self.student, self.backbone.preprocessing)
            )
        if logits is not None:
            logits = logits.float()
        if features is not None:
            grid = (images.shape[2] // self.patch_size, images.shape[3] // self.patch_size)
            features = _resampled(features.float(), grid).flatten(2).transpose(1, 2)
        return Answer(logits, features)


def open_teacher(
    recipe: Recipe, student: AdaPerceiver, averaged: Callable[[], AdaPerceiver]
) -> Taught | None:
    """The teacher of a recipe, on the student's device; None if no loss of it needs one, or it is in place.

    averaged: the averaged weights of this run, for `self`. UsageError for a teacher that cannot teach this
    student: other classes, another number of feature channels, or no such answer; FileError and
    UnavailableError from loading it.
    """
    losses = [recipe.loss_of(stage) for stage in recipe.stages]
    if recipe.teacher is None or recipe.in_place or not any(loss.needs_teacher for loss in losses):
        return None
    backbone = _opened(recipe.teacher, student, averaged)
    name = recipe.teacher.source
    if any(loss.distillation for loss in losses):
        _check_classes(name, backbone, student)
    if any(loss.features for loss in losses):
        _check_features(name, backbone, student)
    _check_channels(name, backbone, student)
    return Taught(backbone, student.preprocessing, student.config.patch_size, recipe.teacher.dtype)


def prepared(images: Tensor, student: Preprocessing, teacher: Preprocessing) -> Tensor:
    """A student's images (B, C, H, W) as a teacher wants them: its channels, its size, its normalisation.

    They pass as they are where both want the same. Grey images become grey RGB.
    """
    if (student.mean, student.std) != (teacher.mean, teacher.std):
        images = images * _column(images, student.std) + _column(images, student.mean)
        images = images.expand(-1, len(teacher.mean), -1, -1)
        images = (images - _column(images, teacher.mean)) / _column(images, teacher.std)
    if tuple(images.shape[2:]) == (teacher.size, teacher.size):
        return images
    # Resampling and normalising may change places: weights of a resampled pixel sum to 1.
    size = (teacher.size, teacher.size)
    return interpolate(
        images, size=size, mode=teacher.interpolation, antialias=teacher.interpolation != "nearest"
    )


def _opened(teacher: Teacher, student: AdaPerceiver, averaged: Callable[[], AdaPerceiver]) -> Backbone:
    kind, _, name = teacher.source.partition(":")
    if kind in ("timm", "hf"):
        if teacher.at != Fixed():
            raise UsageError(f"teacher {teacher.source}: at: only models of adap have configurations")
        return (load_timm if kind == "timm" else load_hf)(name, student.device)
    if kind == "self":
        return _perceiver(averaged, student, teacher.at)
    loaded = load(packaged() if name == "packaged" else name).to(student.device).requires_grad_(False)
    return _perceiver(lambda: loaded, loaded, teacher.at)


def _perceiver(current: Callable[[], AdaPerceiver], like: AdaPerceiver, at: Fixed) -> Backbone:
    """A model of this project at one configuration; `current` gives it, built as `like` is."""
    config, configuration = like.config, at.of(like.config)

    def answer(images: Tensor) -> tuple[Tensor | None, Tensor | None]:
        output, size = current()(images, configuration), config.patch_size
        if output.features is None:
            return output.logits, None
        grid = (images.shape[2] // size, images.shape[3] // size)
        return output.logits, output.features.transpose(1, 2).reshape(len(images), -1, *grid)

    classes = config.num_classes if config.classifies else None
    channels = None if config.task == "classification" else config.output_feat_dim
    return Backbone(answer, like.preprocessing, classes, channels, like.class_names)


def _check_classes(name: str, backbone: Backbone, student: AdaPerceiver) -> None:
    needed = student.config.num_classes
    if backbone.classes is None:
        raise UsageError(f"teacher {name}: gives no logits", "set loss.distillation to 0")
    if backbone.classes != needed:
        raise UsageError(
            f"teacher {name}: {backbone.classes} classes, the student has {needed}",
            "set loss.distillation to 0 and learn from its features",
        )
    if backbone.class_names and student.class_names and backbone.class_names != student.class_names:
        theirs, ours = next(
            pair for pair in zip(backbone.class_names, student.class_names, strict=True) if pair[0] != pair[1]
        )
        raise UsageError(f"teacher {name}: its classes are others: {theirs!r} where the student has {ours!r}")


def _check_features(name: str, backbone: Backbone, student: AdaPerceiver) -> None:
    needed = student.config.output_feat_dim
    if backbone.feature_dim is None:
        raise UsageError(f"teacher {name}: gives no patch features", "set loss.features to 0")
    if backbone.feature_dim != needed:
        raise UsageError(
            f"teacher {name}: {backbone.feature_dim} feature channels, the student's head gives {needed}",
            f"set model.output_feat_dim to {backbone.feature_dim}",
        )


def _check_channels(name: str, backbone: Backbone, student: AdaPerceiver) -> None:
    theirs, ours = len(backbone.preprocessing.mean), len(student.preprocessing.mean)
    if theirs != ours and ours != 1:
        raise UsageError(f"teacher {name}: sees {theirs} channels, the student's images have {ours}")


def _column(images: Tensor, values: tuple[float, ...]) -> Tensor:
    return images.new_tensor(values)[:, None, None]


def _resampled(features_BFij: Tensor, grid: tuple[int, int]) -> Tensor:
    if tuple(features_BFij.shape[2:]) == grid:
        return features_BFij
    return interpolate(features_BFij, size=grid, mode="bilinear", antialias=True)
