"""What a search found, and how it is kept: search.json and front.csv."""

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adapcli.errors import AdapError, FileError
from adapcli.search.landscape import CHOSEN_ON, REPORTED_ON, Indices, Landscape, score_columns
from adapcli.search.target import Target
from adapcli.space import Configuration
from policies.files import atomic_folder, read_json, write_csv, write_json
from policies.shown import short_repr
from policies.statistics import Interval, mean_interval, paired_bootstrap
from policies.table import schema
from policies.table.latency import Condition

SCHEMA_VERSION = 1
JSON_NAME, FRONT_NAME = "search.json", "front.csv"


@dataclass(frozen=True)
class Point:
    """A configuration: its row in the table, id columns, cost, and scores, with a 95 % interval on test."""

    index: int
    configuration: dict[str, Any]
    cost: float
    cost_fraction: float
    calibration_score: float
    test_score: Interval

    @property
    def label(self) -> str:
        """The configuration in a few characters."""
        rest = {name: value for name, value in self.configuration.items() if name != "model"}
        if set(rest) == {"tokens", "width", "depth"}:
            return str(Configuration(**rest))
        return " ".join(f"{name}={value}" for name, value in self.configuration.items())


@dataclass(frozen=True)
class StudySummary:
    """How a sampler fared. Regrets are against the exhaustive search of the same table, 0 at best.

    trials: distinct configurations to evaluate in all; evaluated: how many the study holds, `new` of them
    from this search; repeats and over_budget: proposals that were answered without evaluating.
    hypervolume_regret is relative; score_regret and cost_regret are None without a target.
    """

    sampler: str
    seed: int
    path: str | None
    trials: int
    evaluated: int
    new: int
    repeats: int
    over_budget: int
    exhaustive_hypervolume: float
    hypervolume_regret: float
    score_regret: float | None
    cost_regret: float | None


@dataclass(frozen=True)
class SearchResult:
    """The front (cheapest first, chosen on calibration, reported on test), the choice, and what it saves.

    score_change: mean difference of the choice from the full configuration on test, paired, 95 % interval.
    condition: what a measured cost was measured under; eligible: how many configurations have a cost.
    """

    __repr__ = short_repr

    objective: str
    column: str
    unit: str
    target: Target
    n_calibration: int
    n_test: int
    front: tuple[Point, ...]
    full: Point
    choice: Point | None
    score_change: Interval | None
    hypervolume: float
    fingerprints: dict[str, Any]
    study: StudySummary | None = None
    condition: Condition | None = None
    eligible: int | None = None

    @property
    def saving(self) -> float | None:
        """The part of the full configuration's cost that the choice saves."""
        return None if self.choice is None else 1.0 - self.choice.cost_fraction

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "schema_version": SCHEMA_VERSION,
            "chosen_on": CHOSEN_ON,
            "reported_on": REPORTED_ON,
            **dataclasses.asdict(self),
            "saving": self.saving,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "SearchResult":
        """The inverse of `to_dict`. KeyError or TypeError if something is missing."""
        content = {"condition": None, "eligible": None, **content}  # earlier versions had neither
        fields = {field.name: content[field.name] for field in dataclasses.fields(cls)}
        study, condition = fields["study"], fields["condition"]
        return cls(
            **fields
            | {
                "target": Target(**fields["target"]),
                "front": tuple(map(_point, fields["front"])),
                "full": _point(fields["full"]),
                "choice": None if fields["choice"] is None else _point(fields["choice"]),
                "score_change": None
                if fields["score_change"] is None
                else Interval(**fields["score_change"]),
                "study": None if study is None else StudySummary(**study),
                "condition": None if condition is None else Condition(**condition),
            }
        )

    def frame(self) -> pd.DataFrame:
        """The front as rows."""
        return pd.DataFrame([self._row(point) for point in self.front])

    def to_frame(self) -> pd.DataFrame:
        """The front as rows, cheapest first: configuration, cost, scores; `chosen` marks the choice."""
        return self.frame()

    def _repr_html_(self) -> str:
        """What a notebook shows: a line and `to_frame`."""
        table: str = self.to_frame().to_html(index=False, max_rows=20)
        return f"<p>{escape(repr(self))}</p>{table}"

    def _row(self, point: Point) -> dict[str, Any]:
        return {
            "index": point.index,
            **point.configuration,
            self.column: point.cost,
            "cost_fraction": point.cost_fraction,
            "calibration_score": point.calibration_score,
            "test_score": point.test_score.mean,
            "test_low": point.test_score.low,
            "test_high": point.test_score.high,
            "chosen": self.choice is not None and point.index == self.choice.index,
        }

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path | None:
        """Write search.json and front.csv. A different earlier result is kept beside them unless `overwrite`.

        Returns where the earlier result went, or None. Raises AdapError if the folder cannot be written.
        """
        folder = Path(folder)
        kept = None if overwrite else _keep_earlier(folder, self)
        write_csv(folder / FRONT_NAME, self.frame())
        write_json(folder / JSON_NAME, self.to_dict())
        return kept

    @classmethod
    def load(cls, folder: str | Path) -> "SearchResult":
        """Read what `save` wrote. FileError naming the file and the reason."""
        path = Path(folder) / JSON_NAME
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
            raise FileError(f"{path}: not a search result of version {SCHEMA_VERSION}")
        try:
            return cls.from_dict(content)
        except (KeyError, TypeError, AdapError) as error:
            raise FileError(f"{path}: not a usable search result: {error}") from error


def assemble(
    landscape: Landscape, among: Indices, target: Target, study: StudySummary | None = None
) -> SearchResult:
    """Front and choice among the configurations `among` (n,). InfeasibleError if none meets the target."""
    table = landscape.table
    chosen = target.choose(landscape, among) if target else None
    front = landscape.front(among)
    reported = np.array([*front, table.full, *([] if chosen is None else [chosen])], np.intp)
    scores = score_columns(table, REPORTED_ON, reported)
    points = [_measured(landscape, int(i), scores[:, column]) for column, i in enumerate(reported)]
    n_front = len(front)
    return SearchResult(
        objective=landscape.objective.name,
        column=landscape.objective.column,
        unit=landscape.objective.unit,
        target=target,
        n_calibration=len(table.rows(CHOSEN_ON)),
        n_test=len(scores),
        front=tuple(points[:n_front]),
        full=points[n_front],
        choice=None if chosen is None else points[-1],
        score_change=None if chosen is None else paired_bootstrap(scores[:, -1], scores[:, n_front]),
        hypervolume=landscape.hypervolume(front),
        fingerprints=table.meta.get("fingerprints", {}),
        study=study,
        condition=landscape.objective.condition,
        eligible=len(landscape.eligible),
    )


def _measured(landscape: Landscape, index: int, test_scores: Any) -> Point:
    configs = landscape.table.configs
    axes = configs[schema.id_columns(configs)].iloc[index].to_dict()
    return Point(
        index=index,
        configuration={
            str(name): getattr(value, "item", lambda v=value: v)() for name, value in axes.items()
        },
        cost=float(landscape.cost[index]),
        cost_fraction=float(landscape.fraction[index]),
        calibration_score=float(landscape.score[index]),
        test_score=mean_interval(test_scores),
    )


def _point(content: Mapping[str, Any]) -> Point:
    return Point(**{**content, "test_score": Interval(**content["test_score"])})


def chosen_in(folder: str | Path) -> str:
    """The configuration that the result kept in `folder` chose; empty if there is none that can be read."""
    try:
        choice = SearchResult.load(folder).choice
    except FileError:
        return ""
    return choice.label if choice else ""


def _keep_earlier(folder: Path, result: SearchResult) -> Path | None:
    """Copy a different result that is in `folder` to the first free `earlier-N` in it."""
    try:
        if not (folder / JSON_NAME).exists() or SearchResult.load(folder) == result:
            return None
    except FileError:
        pass  # damaged, yet the user's: kept as it is
    number = next(n for n in range(1, 1_000_000) if not (folder / f"earlier-{n}").exists())
    with atomic_folder(folder / f"earlier-{number}") as scratch:
        for name in (JSON_NAME, FRONT_NAME):
            if (folder / name).exists():
                shutil.copy2(folder / name, scratch / name)
    return folder / f"earlier-{number}"
