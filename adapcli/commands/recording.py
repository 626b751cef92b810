"""What `adap train` keeps for people: TensorBoard events on the way, learning curves at the end."""

from pathlib import Path
from types import TracebackType
from typing import Any

from adapcli.errors import AdapError


class Recording:
    """Around a training run in `folder`; `watch` takes the lines of its journal.

    UnavailableError, before anything runs, if TensorBoard is asked for and absent. The curves are drawn when
    the run ends, for whatever reason it failed; an interrupted one ends without delay. silent: another
    process keeps them.
    """

    def __init__(self, folder: Path, *, tensorboard: bool, silent: bool = False) -> None:
        from adapcli.training.board import Board

        self.folder, self._silent = folder, silent
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
        if self._board is not None:
            self._board.close()
        if self._silent:
            return
        failed = kind is not None and issubclass(kind, AdapError)
        if kind is None or (failed and self._logged):  # a run that was refused changes nothing
            _draw(self.folder, quietly=kind is not None)


def _draw(folder: Path, *, quietly: bool) -> None:
    """The curves; `quietly`: the run failed already, and that is what must be told."""
    from adapcli.report.curves import draw_curves

    try:
        draw_curves(folder)
    except AdapError:
        if not quietly:
            raise
