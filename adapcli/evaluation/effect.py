"""What recalibration changed, per configuration, on samples that it was not fitted on.

n samples, C configurations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapcli.errors import FileError
from adapcli.evaluation.calibration import calibration_error
from adapcli.evaluation.outcomes import Outcomes
from policies.statistics import Interval

MEASURES = ("accuracy", "ece", "nll")
COLUMNS = (*(f"{name}_{when}" for name in MEASURES for when in ("before", "after")), "gained", "lost")
Z = 1.959963984540054


@dataclass(frozen=True, eq=False)
class Effect:
    """columns: by the names in COLUMNS, (C,) each; ece: expected calibration error; nll: mean, in nats.

    gained, lost: how many of the `samples` of `split` are right only after it, only before it.
    """

    split: str
    samples: int
    columns: dict[str, NDArray[np.float64]]

    @classmethod
    def measured(cls, split: str, before: list[Outcomes], after: list[Outcomes]) -> "Effect":
        """From the outcomes of batches, hit (B, C) each."""
        was, now = (_Answers.of(outcomes) for outcomes in (before, after))
        parts = {"before": was, "after": now}
        columns = {f"{name}_{when}": part.mean(name) for when, part in parts.items() for name in MEASURES}
        counts = {"gained": (now.hit > was.hit).sum(0), "lost": (now.hit < was.hit).sum(0)}
        return cls(split, len(was.hit), columns | {k: v.astype(np.float64) for k, v in counts.items()})

    @classmethod
    def joined(cls, parts: "list[tuple[list[int], Effect]]", n_configs: int) -> "Effect":
        """Of all configurations, from those of some, with their places."""
        columns = {name: np.full(n_configs, np.nan) for name in COLUMNS}
        for places, effect in parts:
            for name, values in effect.columns.items():
                columns[name][places] = values
        return cls(parts[0][1].split, parts[0][1].samples, columns)

    def gain(self, configuration: int) -> Interval:
        """What accuracy gains, as a fraction, with its 95 % interval (paired, normal)."""
        gained, lost = (
            float(self.columns[name][configuration]) / self.samples for name in ("gained", "lost")
        )
        mean = gained - lost
        half = Z * sqrt(max(gained + lost - mean**2, 0.0) / self.samples)
        return Interval(mean, mean - half, mean + half)

    @property
    def gains(self) -> NDArray[np.float64]:
        """What accuracy gains, as a fraction, (C,)."""
        gains: NDArray[np.float64] = (self.columns["gained"] - self.columns["lost"]) / self.samples
        return gains

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        columns = {name: self.columns[name].tolist() for name in COLUMNS}
        return {"split": self.split, "samples": self.samples, "columns": columns}

    @classmethod
    def of_meta(cls, meta: Mapping[str, Any], n_configs: int, source: str) -> "Effect | None":
        """What a table's meta tells, None if it tells of none. FileError for what is not an effect."""
        told = meta.get("recalibration")
        content = told.get("effect") if isinstance(told, dict) else None
        if content is None:
            return None
        try:
            columns = {name: np.asarray(content["columns"][name], np.float64) for name in COLUMNS}
            effect = cls(str(content["split"]), int(content["samples"]), columns)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FileError(f"{source}: recalibration.effect: {error}") from error
        fine = all(c.shape == (n_configs,) and np.isfinite(c).all() for c in columns.values())
        if not fine or effect.samples < 1:
            raise FileError(f"{source}: recalibration.effect: expected {n_configs} finite numbers per column")
        return effect


@dataclass(frozen=True)
class _Answers:
    """(n, C) each, on the host."""

    hit: NDArray[np.float64]
    nll: NDArray[np.float64]
    confidence: NDArray[np.float64]

    @classmethod
    def of(cls, outcomes: list[Outcomes]) -> "_Answers":
        columns = zip(*((o.hit, o.nll, o.signals[..., 0]) for o in outcomes), strict=True)
        return cls(*(np.concatenate([part.cpu().double().numpy() for part in column]) for column in columns))

    def mean(self, name: str) -> NDArray[np.float64]:
        if name == "ece":
            sure = np.clip(self.confidence, 0, 1)
            return np.array([calibration_error(sure[:, i], self.hit[:, i]) for i in range(sure.shape[1])])
        values: NDArray[np.float64] = {"accuracy": self.hit, "nll": self.nll}[name].mean(0)
        return values
