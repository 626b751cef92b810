"""A table's recalibration where the model runs: what a policy sees live is what it saw in the table.

B batch, K classes.
"""

from typing import TYPE_CHECKING

from torch import Tensor

from adapcli.errors import UsageError
from adapcli.evaluation.recalibration import Recalibrated
from adapcli.inference.positions import configuration_at
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration

if TYPE_CHECKING:
    from policies.grid import Grid


class Recalibrations:
    """Changes a model's logits as the outcomes of a grid were changed, by configuration."""

    def __init__(self, rows: dict[Configuration, int], recalibrated: Recalibrated) -> None:
        self._rows, self._recalibrated = rows, recalibrated

    @classmethod
    def of(cls, grid: "Grid", model: AdaPerceiver) -> "Recalibrations | None":
        """Those of a policy's or a table's grid, on the model's device; None if it has none.

        UsageError for a grid of something else than configurations, or of another number of classes.
        """
        kept = grid.recalibration
        if kept is None:
            return None
        if kept.n_classes != model.config.num_classes:
            raise UsageError(f"recalibration of {kept.n_classes} classes, not {model.config.num_classes}")
        rows = {configuration_at(grid, at): at for at in range(len(grid))}
        return cls(rows, Recalibrated.of(kept, model.device))

    def __call__(self, logits: Tensor, configuration: Configuration) -> Tensor:
        """Logits (B, K) of a configuration, recalibrated. UsageError for one that was not scored."""
        return self._recalibrated(logits[:, None], (self.require(configuration),))[:, 0]

    def require(self, configuration: Configuration) -> int:
        """Its position in the grid. UsageError for a configuration that was not scored."""
        row = self._rows.get(configuration)
        if row is None:
            raise UsageError(f"{configuration}: not calibrated", "the table that was calibrated lacks it")
        return row
