"""Recipes: everything that decides a training run, as strict, validated data in a YAML file."""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapcli.errors import FileError, UsageError
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
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: Literal["digits"] = "digits"
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
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: cannot be read: not text in UTF-8") from error


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
    content, root = _content(name, text)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(f"{name}: expected fields such as name, model and stages")
    try:
        recipe = Recipe(**content)
        # The data's classes and channels are known when it is opened; any will do to see the rest.
        recipe.model_for(num_classes=2, in_channels=1)
    except ValidationError as error:
        raise UsageError(_first_problem(name, error, (), root)) from error
    except FileError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise UsageError(f"{name}:{_line(root, ('model',))}: {error.message}") from error
        raise UsageError(_first_problem(name, error.__cause__, ("model",), root)) from error
    return recipe


def _content(name: str, text: str) -> tuple[Any, yaml.Node | None]:
    """What the text says, and the tree of nodes that know their lines."""
    try:
        loader = _PlainLoader(text)
        root = loader.get_single_node()
        return (loader.construct_document(root) if root else None), root
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{name}{line}: {getattr(error, 'problem', None) or 'not YAML'}") from error
    except (RecursionError, ValueError, TypeError) as error:  # a date of month 13, a list as a key
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{name}: {reason}") from error


def _first_problem(name: str, error: ValidationError, within: tuple[str, ...], root: yaml.Node | None) -> str:
    """`file:line: field: reason` of an unknown key, else of the first problem; fields lie in `within`."""
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    place = (*within, *first["loc"])
    start = f"{name}:{_line(root, place)}: {'.'.join(map(str, place))}"
    if first["type"] != "extra_forbidden":
        return f"{start}: {first['msg'].removeprefix('Value error, ')}"
    from difflib import get_close_matches

    rooms: dict[str, type[BaseModel]] = {"model": ModelConfig, "stages": Stage, "optimiser": Optimiser}
    known = rooms.get(str(place[0]), Recipe).model_fields
    close = get_close_matches(str(place[-1]), list(known), n=1)
    return f"{start}: unknown key" + (f", did you mean {close[0]!r}?" if close else "")


def _line(node: yaml.Node | None, place: tuple[int | str, ...]) -> int:
    """The line of a field, from 1; of what surrounds it, if it is not there."""
    line = node.start_mark.line + 1 if node else 1
    for part in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            found = [pair for pair in node.value if pair[0].value == str(part)]
            if not found:
                break
            line, node = found[-1][0].start_mark.line + 1, found[-1][1]
    return line
