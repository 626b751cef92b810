"""One configuration per image, decided from what is known before the model runs, within a budget."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from adapcli.data.features import feature_flops, feature_names, image_features
from adapcli.errors import FileError, InfeasibleError
from adapcli.evaluation.patches import check_side, pooled
from adapcli.inference.positions import configuration_at
from adapcli.inference.recalibrations import Recalibrations
from adapcli.model.flops import embed_flops, executed_flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from policies.live import Chooser


class Choosing:
    """What `GroupedRun` asks for configurations: a chooser's answers, cut down to a budget.

    over_budget: images so far whose configuration was cut down; recalibrations: of the chooser's grid.
    """

    def __init__(self, model: AdaPerceiver, chooser: Chooser, *, max_flops: float | None = None) -> None:
        """FileError for a feature that pictures do not have, UsageError for what the model cannot run."""
        self.model, self.chooser, self.over_budget = model, chooser, 0
        self._budget = np.inf if max_flops is None else max_flops
        self._columns, self._side = _columns(chooser), _side(chooser, model)
        self._grid = [configuration_at(chooser.grid, at) for at in range(len(chooser.grid))]
        for configuration in self._grid:
            model.config.check(configuration)
        self.recalibrations = Recalibrations.of(chooser.grid, model)
        self._costs, self._within = cache(self._all_costs), cache(self._cut)

    def __call__(self, images: Tensor) -> Sequence[Configuration]:
        """Images (n, channels, height, width) -> n configurations; InfeasibleError if none is so cheap."""
        size = (images.shape[2], images.shape[3])
        wanted = [self._grid[at] for at in self.chooser.choose(self._features(images)).tolist()]
        allowed = [self._within(configuration, size) for configuration in wanted]
        self.over_budget += sum(a != w for a, w in zip(allowed, wanted, strict=True))
        return allowed

    def own_flops(self, size: tuple[int, int]) -> int:
        """What deciding costs for one image of (height, width): features and the chooser's computation.

        A chooser that looks at patches has them embedded for itself: the run begins anew.
        """
        looking = feature_flops(size, self.model.config.in_channels) if self._columns else 0
        embedding = embed_flops(self.model.config, size) if self._side else 0
        return looking + embedding + self.chooser.own_flops

    def _features(self, images: Tensor) -> np.ndarray:
        if self._side:
            with torch.no_grad():
                kept = pooled(self.model.embed(images), self._side).half()  # as a table keeps them
                return kept.flatten(1).float().cpu().numpy()
        if not self._columns:
            return np.empty((len(images), 0), np.float32)
        with torch.no_grad():
            return image_features(images).cpu().numpy()[:, self._columns]

    def _all_costs(self, size: tuple[int, int]) -> dict[Configuration, int]:
        own = self.own_flops(size)
        return {c: executed_flops(self.model.config, c, size) + own for c in self._grid}

    def _cut(self, wanted: Configuration, size: tuple[int, int]) -> Configuration:
        """The dearest within the budget of those in the grid that are nowhere larger than what is wanted."""
        costs = self._costs(size)
        if costs[wanted] <= self._budget:
            return wanted
        cheap = [c for c in self._grid if costs[c] <= self._budget]
        if not cheap:
            raise InfeasibleError(
                f"budget of {self._budget:.4g} FLOPs: the cheapest costs {min(costs.values()):.4g}"
            )
        smaller = [c for c in cheap if c.tokens <= wanted.tokens and c.depth <= wanted.depth
                   and all(a <= b for a, b in zip(c.widths(), wanted.widths(), strict=False))]  # fmt: skip
        return max(smaller or cheap, key=costs.__getitem__)


def _side(chooser: Chooser, model: AdaPerceiver) -> int:
    """Along each side, how many pooled patches the chooser looks at; 0 if it looks at features."""
    side = math.isqrt(getattr(chooser, "patch_count", 0))
    if side:
        check_side(model.config, side, model.config.image_size)
    return side


def _columns(chooser: Chooser) -> list[int]:
    position = {name: at for at, name in enumerate(feature_names())}
    missing = [name for name in chooser.feature_names if name not in position]
    if missing:
        raise FileError(
            f"the policy needs {len(missing)} features that pictures do not have, first {missing[0]!r}"
        )
    return [position[name] for name in chooser.feature_names]
