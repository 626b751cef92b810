"""Targets with a value per pixel, masks and depth maps: what in them does not count."""

from adapcli.model.config import Task

# The class of pixels that no loss and no metric sees.
IGNORE = 255
# The metres of pixels whose depth is not known.
UNKNOWN_M = 0.0
BACKGROUND = "background"


def is_dense(task: Task) -> bool:
    """Whether targets of a task have a value per pixel."""
    return task in ("segmentation", "depth")
