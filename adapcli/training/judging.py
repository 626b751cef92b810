"""How well a model does its task, at every configuration and at the corners of the grid, by named metrics."""

from collections.abc import Mapping

from adapcli.data.dataset import Dataset
from adapcli.distributed.group import ALONE, Group
from adapcli.evaluation.dense.tasks import TASKS
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from adapcli.training.dense_grid import dense_scores
from adapcli.training.grid import grid_accuracy

# Of the metrics that dense tasks are told by.
UNITS = {task.headline: task.headline_unit for task in TASKS.values()}
# Readouts of one picture, times its patches, up to which a grid is scored: far more than any small model has.
MAX_PATCHES_READ = 100_000
# Test samples: a dense model reads out every pixel of each of them.
TEST_SAMPLES, DENSE_TEST_SAMPLES = 20_000, 2_000

Scores = dict[Configuration, dict[str, float]]


def headline(task: str) -> str:
    """The name of the metric that a task is told by."""
    return TASKS[task].headline if task in TASKS else "accuracy"


def grid_scores(model: AdaPerceiver, data: Dataset, group: Group = ALONE) -> Scores:
    """The metrics of every configuration, in the order of the model's space.

    Of a dense model whose readouts take too long (`MAX_PATCHES_READ`), those of the corners alone.
    """
    config, asked = model.config, list(model.config.space)
    if not config.is_dense:
        accuracy = grid_accuracy(model, data, group).flatten().tolist()
        return {c: {"accuracy": value} for c, value in zip(asked, accuracy, strict=True)}
    if len(asked) * (config.image_size // config.patch_size) ** 2 > MAX_PATCHES_READ:
        asked = sorted(set(corners_of(model).values()))
    return dict(zip(asked, dense_scores(model, data, asked, group), strict=True))


def corner_scores(model: AdaPerceiver, data: Dataset, group: Group = ALONE) -> dict[str, float]:
    """`metric_corner` of each corner: what a run watches while it trains."""
    corners = corners_of(model)
    if not model.config.is_dense:
        return named(grid_scores(model, data, group), corners)
    asked = list(dict.fromkeys(corners.values()))
    return named(dict(zip(asked, dense_scores(model, data, asked, group), strict=True)), corners)


def corners_of(model: AdaPerceiver) -> dict[str, Configuration]:
    """The corners of the grid by name: where the axes matter shows in the differences."""
    space = model.config.space
    corners = {"full": (-1, -1, -1), "cheapest": (0, 0, 0), "fewest_tokens": (0, -1, -1)}
    corners |= {"shallowest": (-1, -1, 0), "narrowest": (-1, 0, -1)}
    return {
        name: Configuration(space.tokens[t], space.widths[w], space.depths[d])
        for name, (t, w, d) in corners.items()
    }


def named(scores: Scores, corners: Mapping[str, Configuration]) -> dict[str, float]:
    """Every metric at every corner: {"accuracy_full": ...}."""
    return {
        f"{metric}_{corner}": value
        for corner, configuration in corners.items()
        for metric, value in scores[configuration].items()
    }


def score_text(metric: str, value: float) -> str:
    """A metric's value for people, with its unit."""
    unit = UNITS.get(metric, "%")
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.3f} {unit}"
