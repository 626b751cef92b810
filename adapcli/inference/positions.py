"""The configuration at a position of a policy's grid."""

from typing import TYPE_CHECKING

from adapcli.errors import UsageError
from adapcli.space import Configuration

if TYPE_CHECKING:
    from policies.grid import Grid


def configuration_at(grid: "Grid", at: int) -> Configuration:
    """The configuration at a position. UsageError if the grid is of something else."""
    named = dict(zip(grid.columns, grid.configurations[at], strict=True))
    try:
        return Configuration(*(int(named[axis]) for axis in ("tokens", "width", "depth")))
    except (KeyError, ValueError) as error:
        raise UsageError(f"a policy over {', '.join(grid.columns)}: not over tokens, width, depth") from error
