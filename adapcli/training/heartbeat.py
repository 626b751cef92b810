"""heartbeat.json: where a run stands, for whoever did not start it; replaced every few seconds."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from adapcli.errors import AdapError
from policies.files import write_json

EVERY_S = 10.0


class Heartbeat:
    """Counts steps per second, and writes `path` at most every `every` seconds; `silent`: never.

    rate: steps per second since the beat before the last, so that it follows a change of stage; None before
    the second step. saved: steps done in the last saved state.
    """

    def __init__(
        self,
        path: Path,
        total: int,
        *,
        every: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        silent: bool = False,
    ) -> None:
        self.silent = silent
        self.path, self.total, self.every, self._clock = path, total, every, clock
        self.rate: float | None = None
        self.saved: int | None = None
        self._marks: list[tuple[float, int]] = []
        self._step, self._stage, self._loss = 0, "", 0.0

    def beat(self, step: int, stage: str, loss: float) -> None:
        """A step was done, with this loss; the first one is written, then one every few seconds."""
        now = self._clock()
        self._step, self._stage, self._loss = step, stage, loss
        if self._marks and now > self._marks[0][0]:
            self.rate = (step - self._marks[0][1]) / (now - self._marks[0][0])
        if not self._marks or now - self._marks[-1][0] >= self.every:
            self._marks = [*self._marks[-1:], (now, step)]
            self.write("running")

    def write(self, state: str) -> None:
        """Write now; state: running, interrupted, failed or finished. A full disk does not end a run here."""
        if self.silent:
            return
        left = (self.total - self._step) / self.rate if self.rate else None
        content = {
            "state": state,
            "step": self._step,
            "steps": self.total,
            "stage": self._stage,
            "loss": self._loss,
            "steps_per_s": None if self.rate is None else round(self.rate, 4),
            "left_s": None if left is None else round(left, 1),
            "saved_step": self.saved,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with suppress(AdapError):
            write_json(self.path, content)
