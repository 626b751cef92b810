"""Recipes as strict, validated data: everything that decides a training run."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from adapcli.data.spec import DataSpec
from adapcli.data.splitting import Splitting
from adapcli.errors import FileError, UsageError
from adapcli.model.config import ModelConfig, Pixels, Task
from adapcli.model.preprocessing import Preprocessing, is_background
from adapcli.space import Configuration

Axis = Literal["tokens", "depth", "width"]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]


def _data(name: str) -> str:
    if name != "digits" and not re.fullmatch("(folder|npz|webdataset|hf):.+", name):
        raise ValueError(f"{name[:80]!r}: expected digits or folder:PATH, or npz:, webdataset:, hf:")
    return name


def _split(text: str) -> str:
    try:
        Splitting.parse(text)
    except UsageError as error:
        raise ValueError(f"{error.message}: {error.hint}") from error
    return text


def _background(text: str) -> str:
    if not is_background(text):
        raise ValueError(f"{text[:40]!r}: expected white, black or #RRGGBB")
    return text


def _teacher(source: str) -> str:
    kind, _, name = source.partition(":")
    if source not in ("self", "in-place") and not (kind in ("ckpt", "timm", "hf") and name):
        raise ValueError(
            f"{source[:80]!r}: expected self, in-place, ckpt:PATH, timm:NAME[@FILE] or hf:FOLDER"
        )
    return source


class Strict(BaseModel):
    """Unknown keys are refused, and nothing changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Loss(Strict):
    """How an answer is judged; a part of weight 0 is left out (method: Training; published weights).

    labels: cross-entropy against labels; of a model that tells depth, the scale-invariant log loss, to which
    `gradients` x the multi-scale gradient loss is added. distillation: KL divergence from the teacher's
    answer, both at `temperature`, times its square. features: the teacher's patch features, `cosine` x cosine
    distance + (1 - cosine) x smooth L1.
    """

    labels: Weight = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    gradients: Weight = 0.5
    distillation: Weight = 0.0
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    features: Weight = 0.0
    cosine: Share = 0.9

    @property
    def needs_teacher(self) -> bool:
        """Whether a part of it compares with a teacher."""
        return self.distillation > 0 or self.features > 0

    @model_validator(mode="after")
    def _judges_something(self) -> "Loss":
        if not (self.labels or self.needs_teacher):
            raise ValueError("labels, distillation and features are all 0: nothing to learn from")
        return self


class Readouts(Strict):
    """Which answers of one forward pass are judged, and how much each counts.

    tokens: after the last block, at "all" granularities or at so many drawn anew each step; token_weights:
    one per granularity, ascending (default: equal). depth: weights of the earlier blocks, l / L or equal;
    depth_tokens: each of them at one granularity drawn anew ("random", as published) or at "all" of them;
    blocks: "all" earlier blocks are read out, or so many drawn anew each step; depth_share: what the depth
    loss counts beside the token loss. width: "implicit" draws one per sample in
    one pass; "explicit" runs a pass per width, "sandwich" the narrowest, the widest and one drawn.
    """

    tokens: Literal["all"] | Count = "all"
    token_weights: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] | None = None
    depth: Literal["linear", "uniform"] = "linear"
    depth_tokens: Literal["random", "all"] = "random"
    blocks: Literal["all"] | Count = "all"
    depth_share: Weight = 1.0
    width: Literal["implicit", "explicit", "sandwich"] = "implicit"


Channels = tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...]


class PreprocessingFields(Strict):
    """How images become the model's input, see `Preprocessing`; its size is `model.image_size`.

    None: as the checkpoint to start from has it, else as usual for the data. crop: centre (of the image, its
    shorter side resized to `resize` pixels), or none (the whole image, its aspect ratio lost). mean, std: a
    number per channel, of pixels in [0, 1]. background: what transparent pixels are composited on.
    """

    resize: Pixels | None = None
    crop: Literal["centre", "none"] | None = None
    interpolation: Literal["bilinear", "bicubic", "nearest"] | None = None
    mean: Channels | None = None
    std: Channels | None = None
    background: Annotated[str, AfterValidator(_background)] | None = None

    def over(self, known: Preprocessing) -> Preprocessing:
        """`known` with what is said here. UsageError for what does not fit together, or the channels."""
        said = self.model_dump(exclude_none=True)
        if said.get("crop") == "none":
            said = {"resize": known.size, **said}
        elif said.get("crop") == "centre" and known.crop == "none":
            said = {"resize": Preprocessing.published(known.size, len(known.mean)).resize, **said}
        try:
            return Preprocessing.from_dict({**known.to_dict(), **said}, len(known.mean))
        except FileError as error:
            raise UsageError(error.message) from error


class Fixed(Strict):
    """One configuration; an axis left out stays at its largest value."""

    tokens: Count | None = None
    width: Count | None = None
    depth: Count | None = None

    def of(self, config: ModelConfig) -> Configuration:
        """As a configuration of a model. UsageError if the model's grid does not have it."""
        return config.space.pick(tokens=self.tokens, width=self.width, depth=self.depth)


class Stage(Strict):
    """Some steps of one kind. axes: those that are adaptive; the others stay where `at` has them.

    learning_rate: in place of the optimiser's, as the height of the schedule. loss, readouts: in place of the
    recipe's.
    """

    name: str
    steps: Annotated[int, Field(ge=1, le=100_000_000)]
    axes: tuple[Axis, ...] = ()
    at: Fixed = Fixed()
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    loss: Loss | None = None
    readouts: Readouts | None = None

    @model_validator(mode="after")
    def _adaptive_or_fixed(self) -> "Stage":
        for axis in self.axes:
            if getattr(self.at, axis) is not None:
                raise ValueError(f"at.{axis}: {axis} is one of the stage's axes, which take every value")
        return self


class Optimiser(Strict):
    """Steps, their size over time, and averaging.

    name: adamw; muon (matrices by Muon, the rest by AdamW); soap (extra). schedule: after a linear warm-up,
    from 1 to `final_share` of the learning rate over the whole run by a cosine, a polynomial of `power`, or
    constant. clip_norm: of all gradients together. ema_decay: of the averaged weights, which are those kept;
    ema_warmup: it starts low, (1 + step) / (10 + step).
    """

    name: Literal["adamw", "muon", "soap"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-3
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    power: Annotated[float, Field(gt=0, le=10)] = 0.9
    final_share: Share = 0.02
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.02
    betas: tuple[Share, Share] = (0.9, 0.98)
    warmup_steps: Annotated[int, Field(ge=0)] = 200
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    ema_warmup: bool = False


class Augment(Strict):
    """What is done to training images, label-aware; 0 leaves a part out.

    crop: smallest part of the area that a random crop keeps (1: no crop). flip: probability of a mirror
    image. colour: strength of random brightness, contrast and saturation. randaugment: operations per image,
    of `magnitude` in [0, 30]. mixup, cutmix: alpha of the Beta distribution of the share. erasing:
    probability that a rectangle is erased.
    """

    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    flip: Share = 0.0
    colour: Share = 0.0
    randaugment: Annotated[int, Field(ge=0, le=8)] = 0
    magnitude: Annotated[float, Field(ge=0, le=30)] = 9.0
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    cutmix: Annotated[float, Field(ge=0, le=10)] = 0.0
    erasing: Share = 0.0


class Teacher(Strict):
    """Whom to learn from: self, in-place, ckpt:PATH, timm:NAME[@FILE] or hf:FOLDER; `at`: its configuration.

    self: the averaged weights of this very run, at its full configuration unless `at` says otherwise.
    in-place: every readout learns from the one a block and a granularity further in the same pass, without a
    pass of a teacher; the largest from labels alone, which then count for both.
    """

    source: Annotated[str, AfterValidator(_teacher)]
    at: Fixed = Fixed()
    dtype: Literal["float32", "bfloat16"] = "float32"


class Recipe(Strict):
    """One training run. `model` holds fields of ModelConfig; `data`: digits, or folder:PATH.

    split, parts, classes, columns, depth_scale, max_pixels: how to read the data, see `DataSpec`.
    train_share: where the data have no part train, this fraction of them is trained on (default 0.5) and
    stays out of other splits. preprocessing: how images become the model's input.
    batch: samples per forward pass; accumulate: passes per step. start: a checkpoint to begin with, whose
    architecture `model` then changes, or `packaged`; train: beginnings of the names of the parameters that
    are trained (default: all). dtype: bfloat16 by autocast.
    checkpointing: blocks' activations are computed again in the backward pass, which saves their memory.
    """

    name: str
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: Annotated[str, AfterValidator(_data)] = "digits"
    split: Annotated[str, AfterValidator(_split)] = "auto"
    parts: dict[str, Literal["train", "val", "test"]] = {}
    classes: tuple[str, ...] | dict[str, int | str] = ()
    columns: dict[Literal["image", "label", "split"], str] = {}
    train_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    depth_scale: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    max_pixels: Count | None = None
    preprocessing: PreprocessingFields = PreprocessingFields()
    batch: Annotated[int, Field(ge=1, le=65_536)] = 128
    accumulate: Annotated[int, Field(ge=1, le=65_536)] = 1
    model: dict[str, Any] = {}
    start: str | None = None
    train: tuple[str, ...] | None = None
    teacher: Teacher | None = None
    augment: Augment = Augment()
    optimiser: Optimiser = Optimiser()
    loss: Loss = Loss()
    readouts: Readouts = Readouts()
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    dtype: Literal["float32", "bfloat16"] = "float32"
    checkpointing: bool = False
    compile: bool = False
    log_every: Annotated[int, Field(ge=1)] = 50
    evaluate_every: Annotated[int, Field(ge=1)] = 1000
    evaluate_samples: Annotated[int, Field(ge=1)] = 2048
    save_every: Annotated[int, Field(ge=1)] = 200

    @model_validator(mode="after")
    def _has_a_model(self) -> "Recipe":
        if not self.model and self.start is None:
            raise ValueError("model: needed without a checkpoint to start from")
        return self

    @model_validator(mode="after")
    def _has_its_teacher(self) -> "Recipe":
        taught = any(self.loss_of(stage).needs_teacher for stage in self.stages)
        if taught and self.teacher is None:
            raise ValueError("loss: distillation or features needs a teacher")
        return self

    @model_validator(mode="after")
    def _reads_out_what_teaches(self) -> "Recipe":
        for stage in self.stages if self.in_place else ():
            readouts, loss = self.readouts_of(stage), self.loss_of(stage)
            if self.teacher is not None and self.teacher.at != Fixed():
                raise ValueError("teacher.at: in-place has a teacher at every configuration")
            if loss.features:
                raise ValueError("loss.features: teacher in-place gives no features")
            sampled = "tokens" in stage.axes and readouts.tokens != "all"
            if "depth" in stage.axes and "tokens" in stage.axes:
                sampled |= readouts.depth_tokens != "all"
            if "depth" in stage.axes:
                sampled |= readouts.blocks != "all"
            if loss.distillation and sampled:
                raise ValueError("teacher in-place: needs readouts.tokens, depth_tokens and blocks: all")
        return self

    @property
    def task(self) -> Task:
        """What the data's targets are for: the task of `model`, where it names one."""
        named: Task = self.model.get("task", "classification")
        return named

    @property
    def data_spec(self) -> DataSpec:
        """The data, and how to read them; `train_share` of them only where they need it, see `Source`."""
        return DataSpec(
            name=self.data,
            split_by=self.split,
            parts=self.parts,
            classes=self.classes,
            columns={str(name): column for name, column in self.columns.items()},
            depth_scale=self.depth_scale,
            max_pixels=self.max_pixels,
        )

    @property
    def in_place(self) -> bool:
        """Whether readouts learn from one another."""
        return self.teacher is not None and self.teacher.source == "in-place"

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> Stage:
        """The stage that step number `step` (from 0) belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def loss_of(self, stage: Stage) -> Loss:
        """How a stage judges."""
        return stage.loss or self.loss

    def readouts_of(self, stage: Stage) -> Readouts:
        """What a stage judges."""
        return stage.readouts or self.readouts

    def model_for(self, num_classes: int, in_channels: int) -> ModelConfig:
        """The model's architecture for a data set; 0 classes: it has none. FileError for what cannot be."""
        known = {"num_classes": num_classes or None, "in_channels": in_channels}
        return ModelConfig.from_dict({**known, **self.model})
