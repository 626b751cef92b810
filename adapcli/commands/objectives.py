"""What `adap search` keeps low, and what it must meet: options, and how they fit together."""

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from adapcli.commands.options import fraction, one_of, whole
from adapcli.commands.units import bytes_text, flops_text
from policies.texts import significant

if TYPE_CHECKING:
    from adapcli.run import Run
    from adapcli.search import Objective, Target
    from policies.table import OutcomeTable

OBJECTIVES = ("flops", "latency", "memory")
UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}  # fmt: skip


class Share(float):
    """A target as a fraction of what the full configuration costs, where others are amounts."""


def milliseconds(text: str) -> float:
    """A time above 0, in milliseconds: 3.5 or 3.5ms; or a `Share` of the full configuration's: 70%."""
    if text.endswith("%"):
        return Share(fraction(text))
    number = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(?: ?ms)?", text)
    value = float(number[1]) if number else 0.0
    if value <= 0:
        raise typer.BadParameter(f"{text!r}: expected milliseconds above 0: write 3.5, or 70% of full")
    return value


def size_bytes(text: str) -> float:
    """A size above 0 with its unit: 512MiB, 1.5GB; or a `Share` of the full configuration's: 70%."""
    if text.endswith("%"):
        return Share(fraction(text))
    parts = re.fullmatch(rf"([0-9]{{1,15}}(?:\.[0-9]{{1,9}})?) ?({'|'.join(UNITS)})", text)
    value = float(parts[1]) * UNITS[parts[2]] if parts else 0.0
    if value <= 0:
        raise typer.BadParameter(
            f"{text!r}: expected a size with its unit: write 512MiB, or 70% of the full one's; "
            f"units: {', '.join(UNITS)}"
        )
    return math.floor(value)


ObjectiveName = Annotated[
    str | None,
    typer.Option(
        "--objective",
        parser=one_of(*OBJECTIVES),
        metavar="NAME",
        help="Cost: flops, latency or memory. [default: the target's, or flops]",
    ),
]
LatencyTarget = Annotated[
    float | None,
    typer.Option(
        "--latency-target",
        parser=milliseconds,
        metavar="MS",
        help="Median time of a batch at most: 3.5, or 70% of full.",
    ),
]
MemoryTarget = Annotated[
    float | None,
    typer.Option(
        "--memory-target",
        parser=size_bytes,
        metavar="SIZE",
        help="Peak memory at most: 512MiB, or 70% of full.",
    ),
]
MeasuredBatch = Annotated[
    int | None,
    typer.Option("--batch", parser=whole(1, 65536), metavar="N", help="As measured at this batch size (1)."),
]
MeasuredDevice = Annotated[
    str, typer.Option("--device", metavar="NAME", help="As measured on this device: a part of its name.")
]
MeasuredDtype = Annotated[str, typer.Option("--dtype", metavar="NAME", help="As measured in this type.")]


@dataclass(frozen=True)
class Wanted:
    """objective and target of a search; told: what to know about where the costs come from."""

    objective: "Objective"
    target: "Target"
    told: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """The options as given. batch, device and dtype pick among measurements."""

    objective: str | None
    flops_target: float | None
    latency_target: float | None
    memory_target: float | None
    min_score: float | None
    batch: int | None
    device: str
    dtype: str

    def wanted(self, table: "OutcomeTable", run: "Run") -> Wanted:
        """UsageError for what does not go together; FileError if it needs measurements that are not there."""
        from adapcli.search import Target

        name = self._name()
        limit = self.latency_target or self.memory_target
        share = float(limit) if isinstance(limit, Share) else self.flops_target
        target = Target(share, self.min_score, None if isinstance(limit, Share) else limit)
        objective, told = self._objective(name, table, run)
        return Wanted(objective, target, told)

    def _name(self) -> str:
        from adapcli.errors import UsageError

        limits = (self.flops_target, self.latency_target, self.memory_target)
        given = [name for name, limit in zip(OBJECTIVES, limits, strict=True) if limit is not None]
        if len(given) > 1:
            raise UsageError(
                f"--{given[0]}-target and --{given[1]}-target exclude each other", "give one of them"
            )
        name = self.objective or (given[0] if given else "flops")
        if given and given[0] != name:
            raise UsageError(f"--{given[0]}-target goes with --objective {given[0]}, not {name}")
        if name == "flops" and (self.batch or self.device or self.dtype):
            raise UsageError("--batch, --device and --dtype pick a measurement", "add --objective latency")
        return name

    def _objective(self, name: str, table: "OutcomeTable", run: "Run") -> "tuple[Objective, list[str]]":
        from adapcli.errors import FileError
        from adapcli.search.objectives import conditions_of, objective

        if name == "flops":
            return objective(name), []
        measured = table.latency is not None and len(table.latency) > 0
        asked = bool(self.batch or self.device or self.dtype)
        if not measured and (name == "latency" or asked):
            raise FileError(f"no latency was measured for {run.table}", f"run `{run.command('bench')}` first")
        if not measured:
            return objective(name), [f"memory is estimated, batch 1; `{run.command('bench')}` measures it"]
        found = conditions_of(table, batch=self.batch or 1, device=self.device, dtype=self.dtype)
        told = [f"{name} as measured: {found[-1]}"]
        if len(found) > 1:
            others = "; ".join(map(str, found[:-1]))
            told.append(f"also measured: {others}; --device and --dtype pick, the latest was taken")
        return objective(name, found[-1]), told


def cost_text(amount: float, unit: str) -> str:
    """A cost in its unit: 3.23 MFLOPs, 3.42 ms, 1.09 MiB."""
    known = {"FLOPs": flops_text, "bytes": bytes_text}
    return known[unit](amount) if unit in known else f"{significant(amount)} {unit}"
