"""What `adap train` keeps for people: TensorBoard events on the way, learning curves at the end."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from adapcli.errors import AdapError


class Recording:
    """Around a training run in `folder`; `watch` takes the lines of its journal.

    UnavailableError, before anything runs, if TensorBoard is asked for and absent. The curves are drawn when
    the run ends, for whatever reason it failed; an interrupted one ends without delay. What goes wrong with
    them is a warning: the model is trained and saved. silent: another process keeps them.
    """

    def __init__(
        self, folder: Path, warn: Callable[[str], object], *, tensorboard: bool, silent: bool = False
    ) -> None:
        from adapcli.training.board import Board

        self.folder, self._warn, self._silent = folder, warn, silent
        self._board = Board(folder) if tensorboard and not silent else None
        self._logged = False

    def watch(self, line: dict[str, Any]) -> None:
        """A line was logged."""
        self._logged = True
        if self._board is not None:
            self._board.write(line)

    def __enter__(self) -> "Recording":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = kind is not None and issubclass(kind, AdapError)
        try:
            if self._board is not None:
                self._board.close()
            if not self._silent and (kind is None or (failed and self._logged)):
                self._draw()  # not for a run that was refused: it changes nothing
        except Exception as problem:
            if kind is None:  # else the failure of the run is what must be reported
                text = str(problem).partition("\n")[0] or type(problem).__name__
                self._warn(f"the learning curves could not be drawn: {text}")

    def _draw(self) -> None:
        from adapcli.report.curves import draw_curves

        draw_curves(self.folder)
