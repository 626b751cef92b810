"""Recipes in YAML files: read, checked, and what is wrong told with its line."""

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError, create_model

from adapcli.errors import FileError, UsageError
from adapcli.model.config import ModelConfig
from adapcli.training.schema import (
    Augment,
    Fixed,
    Loss,
    Optimiser,
    Readouts,
    Recipe,
    Stage,
    Strict,
    Teacher,
)

MAX_RECIPE_BYTES = 1 << 20


def packaged_recipes() -> list[str]:
    """Names of the recipes that come with the project."""
    folder = resources.files("adapcli.training").joinpath("recipes")
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def load_recipe(name_or_file: str, changes: Sequence[str] = ()) -> Recipe:
    """A packaged recipe by name, or a YAML file; then `changes`, each `key=value`.

    key: a path of names and numbers with dots, such as `optimiser.learning_rate` or `stages.0.steps`; value:
    YAML. UsageError names the file, the line or field, and the reason.
    """
    if name_or_file.endswith((".yaml", ".yml")):
        return _parse(name_or_file, _read(Path(name_or_file)), changes)
    if name_or_file not in packaged_recipes():
        from difflib import get_close_matches

        close = get_close_matches(name_or_file, packaged_recipes(), n=1)
        hint = f"one of {', '.join(packaged_recipes())}, or a .yaml file"
        hint = f"did you mean {close[0]!r}? It is {hint}" if close else hint
        raise UsageError(f"recipe {name_or_file!r}: not known", hint)
    text = resources.files("adapcli.training").joinpath("recipes", f"{name_or_file}.yaml").read_text("utf-8")
    return _parse(name_or_file, text, changes)


def as_yaml(recipe: Recipe) -> str:
    """The recipe with everything that was left out, as a file that `load_recipe` reads."""
    text: str = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, width=100, allow_unicode=True)
    return text


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
    """Safe YAML without aliases: a recipe needs none, and nested ones can expand without bound.

    1e-4 is a number, as in YAML 1.2, for which 1.1 wants 1.0e-4.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.constructor.ConstructorError(
                None,
                None,
                "aliases are not allowed",
                self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        return super().compose_node(parent, index)


_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _parse(name: str, text: str, changes: Sequence[str]) -> Recipe:
    content, root = _content(name, text)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(f"{name}: expected fields such as name, model and stages")
    changed = {_change(content, change) for change in changes}
    try:
        recipe = Recipe(**content)
        if recipe.start is None:
            # The data's classes and channels are known when it is opened; any will do to see the rest.
            check_fit(recipe, recipe.model_for(num_classes=2, in_channels=1))
        else:  # the rest is the checkpoint's
            _check_names(recipe.model)
    except ValidationError as error:
        raise UsageError(_first_problem(name, error, (), root, changed)) from error
    except FileError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise UsageError(f"{name}:{_line(root, ('model',))}: {error.message}") from error
        raise UsageError(_first_problem(name, error.__cause__, ("model",), root, changed)) from error
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}", error.hint) from error
    return recipe


def _check_names(model: dict[str, Any]) -> None:
    """FileError, because of a ValidationError, for a name that no field has."""
    fields: Any = {name: (Any, None) for name in ModelConfig.model_fields}
    try:
        create_model("Names", __config__=Strict.model_config, **fields)(**model)
    except ValidationError as error:
        raise FileError("model: unknown key") from error


def check_fit(recipe: Recipe, config: ModelConfig) -> None:
    """What a recipe says of a model must be so. UsageError otherwise."""
    granularities = len(config.token_granularities)
    if not (config.classifies or config.is_dense):
        raise UsageError(f"model.task {config.task}: gives no answer that a recipe could judge")
    if config.is_dense:
        _check_dense(recipe, config)
    for stage in recipe.stages:
        stage.at.of(config)
        if "tokens" in stage.axes and not config.has_prefix_property:
            raise UsageError(
                "model.mask none: the first tokens of a run are no run of their own",
                "leave tokens out of the axes, or train with mask block or causal",
            )
        weights = recipe.readouts_of(stage).token_weights
        if weights is not None and len(weights) != granularities:
            raise UsageError(f"token_weights: {len(weights)} for {granularities} granularities")
        if recipe.loss_of(stage).features and config.task != "distillation":
            raise UsageError(f"loss.features: a {config.task} model gives no patch features")


def _check_dense(recipe: Recipe, config: ModelConfig) -> None:
    """Nothing that is defined on a class per picture alone."""
    from adapcli.evaluation.dense.tasks import dense_task

    task = dense_task(config, config.image_size)
    moved = [name for name in ("randaugment", "mixup", "cutmix") if getattr(recipe.augment, name)]
    if moved:
        raise UsageError(
            f"augment.{moved[0]}: does not do to {task.targets_name} what it does to pictures",
            "crop, flip, colour and erasing do",
        )
    if not task.moves_with_pixels and (recipe.augment.crop < 1 or recipe.augment.flip):
        name = "crop" if recipe.augment.crop < 1 else "flip"
        raise UsageError(f"augment.{name}: {task.targets_name} would be others", "colour and erasing do")
    for stage in recipe.stages:
        loss = recipe.loss_of(stage)
        if loss.needs_teacher:
            part = "distillation" if loss.distillation else "features"
            raise UsageError(f"loss.{part}: models that draw maps learn from {task.targets_name} alone")
        task.check_loss(loss)


def _change(content: dict[str, Any], change: str) -> str:
    """Set `key=value` in a recipe's content; the key. UsageError for a place that is not there."""
    key, equals, text = change.partition("=")
    if not key or not equals:
        raise UsageError(f"--set {change!r}: expected key=value", "such as optimiser.learning_rate=0.001")
    *way, last = key.split(".")
    place: Any = content
    for part in way:
        place = _inner(place, part, key)
    value = _content(f"--set {key}", text)[0]
    if isinstance(place, list):
        if not last.isdecimal() or int(last) >= len(place):
            raise UsageError(f"--set {key}: there are {len(place)}, counted from 0")
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise UsageError(f"--set {key}: {'.'.join(way)} holds no fields")
    return key


def _inner(place: Any, part: str, key: str) -> Any:
    if isinstance(place, dict):
        if place.get(part) is None:
            place[part] = {}
        return place[part]
    if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
        return place[int(part)]
    raise UsageError(f"--set {key}: no {part!r} there")


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


ROOMS: dict[str, type[BaseModel]] = {
    "model": ModelConfig,
    "stages": Stage,
    "optimiser": Optimiser,
    "loss": Loss,
    "readouts": Readouts,
    "at": Fixed,
    "teacher": Teacher,
    "augment": Augment,
}


def _first_problem(
    name: str, error: ValidationError, within: tuple[str, ...], root: yaml.Node | None, changed: set[str]
) -> str:
    """`file:line: field: reason` of an unknown key, else of the first problem; fields lie in `within`."""
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    place = (*within, *first["loc"])
    field = ".".join(map(str, place))
    typed = any(key == field or key.startswith(f"{field}.") for key in changed)
    start = f"--set {field}" if typed else f"{name}:{_line(root, place)}: {field}".rstrip(": ")
    if first["type"] != "extra_forbidden":
        return f"{start}: {first['msg'].removeprefix('Value error, ')}"
    from difflib import get_close_matches

    room = next((ROOMS[part] for part in reversed(place[:-1]) if part in ROOMS), Recipe)
    close = get_close_matches(str(place[-1]), list(room.model_fields), n=1)
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
