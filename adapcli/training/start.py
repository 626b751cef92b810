"""The model that a run begins with: drawn from the recipe's seed, or what fits of a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from adapcli.data.dense import is_dense
from adapcli.errors import UsageError
from adapcli.model.checkpoint import load, packaged
from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.preprocessing import Preprocessing
from adapcli.training.recipe import check_fit
from adapcli.training.schema import Recipe
from adapcli.training.source import Source

POSITIONS = "patch_embed.pos_embed"


@dataclass(frozen=True)
class Start:
    """A model to train. loaded: tensors from the checkpoint; resampled, made, left: names of tensors.

    resampled: positions of another image size; made: drawn anew; left: of the checkpoint, not used.
    """

    model: AdaPerceiver
    loaded: int = 0
    resampled: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line for people; empty without a checkpoint."""
        if not self.loaded:
            return ""
        parts = {"resampled": self.resampled, "newly made": self.made, "not used": self.left}
        told = [f"{what}: {_shown(names)}" for what, names in parts.items() if names]
        return "; ".join([f"{self.loaded} tensors loaded", *told])


def start(recipe: Recipe, source: Source) -> Start:
    """The model of a recipe, for its data's classes.

    With `recipe.start`, architecture and preprocessing are the checkpoint's, but for what the recipe's
    `model` and `preprocessing` say; tensors of the same name and shape are taken over, positions resampled,
    the rest drawn.
    FileError for a checkpoint that cannot be read, UsageError for a recipe that does not fit it or the data.
    """
    base = None if recipe.start is None else load(packaged() if recipe.start == "packaged" else recipe.start)
    return started(recipe, source, base)


def started(recipe: Recipe, source: Source, base: AdaPerceiver | None) -> Start:
    """The same, from a checkpoint that is open already."""
    config = architecture(recipe, source, base)
    fresh = source.preprocessing(config.image_size, config.in_channels)
    known = fresh if base is None else _resized(base.preprocessing, config, fresh)
    preprocessing = recipe.preprocessing.over(known)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = AdaPerceiver(config, preprocessing=preprocessing, class_names=source.class_names)
    check_trained(recipe, model)
    return Start(model) if base is None else _filled(model, base)


def architecture(recipe: Recipe, source: Source, base: AdaPerceiver | None) -> ModelConfig:
    """The config for the data's classes. UsageError if the recipe's own number differs, or does not fit."""
    classes, own = len(source.class_names), recipe.model.get("num_classes")
    if classes and own not in (None, classes):
        raise UsageError(f"model.num_classes {own}: {recipe.data} has {classes} classes")
    if base is None:
        config = recipe.model_for(classes, source.channels)
    else:
        kept = {**base.config.to_dict(), "num_classes": classes or None}
        config = ModelConfig.from_dict({**kept, **recipe.model})
    if source.task != config.task and (config.is_dense or is_dense(source.task)):
        raise UsageError(
            f"start: {recipe.start} is for {config.task}", f"say so in the recipe: model.task={config.task}"
        )
    check_fit(recipe, config)
    return config


def check_trained(recipe: Recipe, model: AdaPerceiver) -> None:
    """UsageError for a beginning in `recipe.train` that no parameter's name has."""
    names = [name for name, _ in model.named_parameters()]
    for beginning in recipe.train or ():
        if not any(name.startswith(beginning) for name in names):
            close = get_close_matches(beginning, {name.split(".")[0] for name in names}, n=1)
            raise UsageError(
                f"train: no parameter's name begins with {beginning!r}",
                f"did you mean {close[0]!r}?" if close else "`adap info` shows the model's parts",
            )


def _resized(known: Preprocessing, config: ModelConfig, fresh: Preprocessing) -> Preprocessing:
    if len(known.mean) != config.in_channels:
        return fresh
    size = config.image_size
    return replace(known, size=size, resize=max(size, round(known.resize * size / known.size)))


def _filled(model: AdaPerceiver, base: AdaPerceiver) -> Start:
    state, own = _renamed(base, model), model.state_dict()
    resampled: tuple[str, ...] = ()
    if state[POSITIONS].shape[1] != own[POSITIONS].shape[1]:
        side = round(own[POSITIONS].shape[1] ** 0.5)
        state[POSITIONS] = base.patch_embed.positions(side, side).detach()
        resampled = (POSITIONS,)
    fitting = {name: tensor for name, tensor in state.items() if _fits(tensor, own.get(name))}
    if not fitting.keys() & {name for name in own if name.startswith("blocks.")}:
        raise UsageError("start: no block of the checkpoint has the shape that the recipe's model asks for")
    model.load_state_dict(fitting, strict=False)
    return Start(model, len(fitting), resampled, _without(own, fitting), _without(state, own))


def _renamed(base: AdaPerceiver, model: AdaPerceiver) -> dict[str, Tensor]:
    """The checkpoint's tensors, by their names in the model.

    What a distilled model writes its patch features with is all that a model of features alone writes with.
    """
    state = dict(base.state_dict())
    if base.config.task != "distillation" or model.config.classifies:
        return state
    feat = {name: name.replace("_feat.", ".") for name in state if name.split(".")[0].endswith("_feat")}
    kept = {name: tensor for name, tensor in state.items() if name not in feat.values()}
    return {feat.get(name, name): tensor for name, tensor in kept.items()}


def _fits(tensor: Tensor, place: Tensor | None) -> bool:
    return place is not None and place.shape == tensor.shape


def _without(names: Mapping[str, Any], taken: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in taken)


def _shown(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
