"""Recipes: everything that decides a training run, as strict, validated data in a YAML file."""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapcli.errors import UsageError
from adapcli.model.config import ModelConfig

Axis = Literal["tokens", "depth", "width"]
Share = Annotated[float, Field(ge=0, le=1)]
MAX_RECIPE_BYTES = 1 << 20


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Stage(_Strict):
    """Some steps with the same axes adaptive. Without an axis, it stays at its largest value."""

    name: str
    steps: Annotated[int, Field(ge=1, le=100_000_000)]
    axes: tuple[Axis, ...] = ()


class Optimiser(_Strict):
    """AdamW with linear warm-up and cosine decay over the whole run; gradients clipped by norm."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-3
    final_share: Share = 0.02
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.02
    betas: tuple[Share, Share] = (0.9, 0.98)
    warmup_steps: Annotated[int, Field(ge=0)] = 200
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999


class Recipe(_Strict):
    """One training run. `model` holds fields of ModelConfig; `data` names a data set with a train split."""

    name: str
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: str = "digits"
    batch: Annotated[int, Field(ge=1, le=65_536)] = 128
    model: dict[str, Any]
    optimiser: Optimiser = Optimiser()
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    depth_weights: Literal["linear", "uniform"] = "linear"
    log_every: Annotated[int, Field(ge=1)] = 50
    evaluate_every: Annotated[int, Field(ge=1)] = 1000
    evaluate_samples: Annotated[int, Field(ge=1)] = 2048
    save_every: Annotated[int, Field(ge=1)] = 200

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

    def model_for(self, num_classes: int, in_channels: int) -> ModelConfig:
        """The model's architecture for a data set."""
        known = {"num_classes": num_classes, "in_channels": in_channels}
        return ModelConfig.from_dict({**known, **self.model})


def packaged_recipes() -> list[str]:
    """Names of the recipes that come with the project."""
    folder = resources.files("adapcli.training").joinpath("recipes")
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def load_recipe(name_or_file: str) -> Recipe:
    """A packaged recipe by name, or a YAML file.

    UsageError names the file, the line or field, and the reason.
    """
    if name_or_file.endswith((".yaml", ".yml")):
        return _parse(name_or_file, _read(Path(name_or_file)))
    if name_or_file not in packaged_recipes():
        from difflib import get_close_matches

        close = get_close_matches(name_or_file, packaged_recipes(), n=1)
        hint = (
            f"did you mean {close[0]!r}?"
            if close
            else f"one of {', '.join(packaged_recipes())}, or a .yaml file"
        )
        raise UsageError(f"recipe {name_or_file!r}: not known", hint)
    text = resources.files("adapcli.training").joinpath("recipes", f"{name_or_file}.yaml").read_text("utf-8")
    return _parse(name_or_file, text)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise UsageError(f"{path}: larger than a recipe can be")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases: a recipe needs none, and nested ones can expand without bound."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.constructor.ConstructorError(
                None,
                None,
                "aliases are not allowed",
                self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        return super().compose_node(parent, index)


def _parse(name: str, text: str) -> Recipe:
    try:
        content = yaml.load(text, Loader=_PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{name}{line}: {getattr(error, 'problem', None) or 'not YAML'}") from error
    except RecursionError as error:
        raise UsageError(f"{name}: nested too deeply") from error
    if not isinstance(content, dict):
        raise UsageError(f"{name}: expected fields such as name, model and stages")
    try:
        return Recipe(**content)
    except (ValidationError, TypeError) as error:
        raise UsageError(f"{name}: {_first_problem(error, text)}") from error


def _first_problem(error: ValidationError | TypeError, text: str) -> str:
    if isinstance(error, TypeError):
        return str(error)
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] != "extra_forbidden":
        return f"{field}: {first['msg']}"
    from difflib import get_close_matches

    key = str(first["loc"][-1])
    known = [*Recipe.model_fields, *Stage.model_fields, *Optimiser.model_fields]
    close = get_close_matches(key, known, n=1)
    lines = [i for i, line in enumerate(text.splitlines(), 1) if line.strip().lstrip("- {").startswith(key)]
    where = f"line {lines[0]}: " if lines else ""
    return f"{where}{field}: unknown key" + (f", did you mean {close[0]!r}?" if close else "")
