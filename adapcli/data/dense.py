"""Targets with a value per pixel: what in them does not count. Offsets to centres are NaN there."""

from adapcli.model.config import CLASS_TASKS, DENSE_TASKS, Task

# The class of pixels that no loss and no metric sees.
IGNORE = 255
# The metres of pixels whose depth is not known.
UNKNOWN_M = 0.0
BACKGROUND = "background"


def is_dense(task: Task) -> bool:
    """Whether targets of a task have a value per pixel."""
    return task in DENSE_TASKS


def has_classes(task: Task) -> bool:
    """Whether targets of a task are classes, of a picture or of a pixel."""
    return task in CLASS_TASKS
