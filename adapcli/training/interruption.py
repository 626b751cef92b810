"""Ctrl-C and SIGTERM while weights change: noted, and acted on between two steps."""

import signal
import threading
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Interruptions:
    """While entered, the first signal is only noted in `asked`; a second one acts at once, as before.

    A signal that is ignored stays ignored, and threads other than the main one, which get none, note none.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruptions":
        if threading.current_thread() is threading.main_thread():
            known = {number: signal.getsignal(number) for number in NUMBERS}
            # None: a handler that is not Python's own could not be put back.
            self._before = {n: was for n, was in known.items() if was not in (signal.SIG_IGN, None)}
            for number in self._before:
                signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()

    def act(self, number: int | None = None) -> None:
        """Do what the noted signal, or `number`, would have done; call it when all is safe."""
        asked = self.asked if number is None else number
        if asked is not None:
            self._give_back()
            signal.raise_signal(asked)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.asked is not None:
            self._give_back()
            signal.raise_signal(number)
        self.asked = number

    def _give_back(self) -> None:
        for number, was in self._before.items():
            signal.signal(number, was)
        self._before = {}
