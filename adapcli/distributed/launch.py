"""Which of how many processes this is, as torchrun sets it in the environment. Knows no torch.

WORLD_SIZE, RANK and LOCAL_RANK alone say nothing: batch systems and other launchers leave them in a shell.
Only with TORCHELASTIC_RUN_ID, which torchrun sets, are they about this process.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from adapcli.errors import AdapError, UsageError

NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
STARTED = "TORCHELASTIC_RUN_ID"
LEFTOVERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK")
MOST = 65_536


class LostError(AdapError):
    """Another process ended, so that this one cannot go on; `explained`: that one told why."""

    def __init__(self, message: str, hint: str = "", *, explained: bool = False) -> None:
        super().__init__(message, hint)
        self.explained = explained


class ElsewhereError(AdapError):
    """An error of a process other than the first, which only that process knows of."""


@dataclass(frozen=True)
class Launch:
    """rank: from 0, of `size` processes; local_rank: on this machine, of `local_size`.

    restarts: how often torchrun (`--max-restarts`) has started them again.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    restarts: int = 0

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> "Launch":
        """Of this process; alone unless torchrun started it. UsageError for values torchrun never sets."""
        if not launched(environment):
            return cls(restarts=_count(environment, "TORCHELASTIC_RESTART_COUNT", MOST, 0))
        size = _count(environment, "WORLD_SIZE", MOST, low=1)
        missing = [name for name in NEEDED if not environment.get(name)]
        if missing:
            raise UsageError(
                f"WORLD_SIZE is {size}, but not set: {', '.join(missing)}",
                f"start with `torchrun --nproc-per-node {size} -m adapcli ...`, or unset {STARTED}",
            )
        _count(environment, "MASTER_PORT", 65_535, low=1)
        local_size = _count(environment, "LOCAL_WORLD_SIZE", size, size, low=1)
        return cls(
            rank=_count(environment, "RANK", size - 1),
            size=size,
            local_rank=_count(environment, "LOCAL_RANK", local_size - 1),
            local_size=local_size,
            restarts=_count(environment, "TORCHELASTIC_RESTART_COUNT", MOST, 0),
        )

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and talks."""
        return self.rank == 0

    def again(self, *, resume: bool, overwrite: bool) -> tuple[bool, bool]:
        """resume and overwrite as they count: what torchrun starts again goes on."""
        return (True, False) if self.restarts else (resume, overwrite)


def launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun started this process as one of several."""
    return STARTED in environment and environment.get("WORLD_SIZE", "1") != "1"


def speaks(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process reports what all processes of a machine meet alike."""
    return not launched(environment) or environment.get("LOCAL_RANK", "0") == "0"


def leftovers(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Variables that claim several processes although torchrun started none: NAME=VALUE of each."""
    claims = environment.get("WORLD_SIZE", "1") != "1" or environment.get("RANK", "0") != "0"
    if STARTED in environment or not claims:
        return []
    return [f"{name}={environment[name][:40]}" for name in LEFTOVERS if name in environment]


def _count(
    environment: Mapping[str, str], name: str, high: int, default: int | None = None, *, low: int = 0
) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if not (text or "").isdecimal() or not low <= int(text or "") <= high:
        raise UsageError(
            f"{name}={str(text)[:40]!r} in the environment: expected a whole number from {low} to {high}",
            "torchrun sets it: do not set it by hand",
        )
    return int(text or "")
