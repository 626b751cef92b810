"""The journal's lines as TensorBoard events, beside it."""

from pathlib import Path
from typing import Any

from adapcli.errors import UnavailableError, pip_install


class Board:
    """Events in `folder`/tensorboard. UnavailableError without the extra.

    A run that goes on from a step hides what an interrupted one had written after it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UnavailableError("TensorBoard is not installed", pip_install("tensorboard")) from error
        self._make: Any = SummaryWriter
        self._folder = folder / "tensorboard"
        self._writer: Any = None

    def write(self, line: dict[str, Any]) -> None:
        """Every number of a journal's line, by name, at its step."""
        if self._writer is None:
            self._writer = self._make(str(self._folder), purge_step=line["step"])
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, line["step"])
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
