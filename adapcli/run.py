"""The run folder: where each command finds what the one before left, and how the results came about.

run.json                    checkpoint, data, seeds, and every command with its versions, time and duration
table/                      the outcome table (`adap sweep`), with latencies (`adap bench`)
search/                     search.json, front.csv (`adap search`)
policies/NAME/              policy.json, policy.safetensors, evaluation.json, curve.csv (`adap train-policy`)
field/                      field.json, field.csv, members/: all kinds compared (`train-policy --algo all`)
bench/                      bench.json: latency and memory on this machine (`adap bench`)
train/                      model.pt, metrics.jsonl, curves.png, state.pt, heartbeat.json (`adap train`)
diagnosis/                  diagnosis.json: failure signatures of a checkpoint (`adap diagnose`)
report/                     index.html, report.md, figures/, tables/ (`adap report`)
"""

import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapcli.errors import AdapError, FileError, UsageError
from adapcli.measure.device import versions
from policies.files import read_json, write_json

if TYPE_CHECKING:
    from adapcli.data.spec import DataSpec

SCHEMA_VERSION = 1
DEFAULT_FOLDER = "adap-run"
PACKAGED = "packaged"
"""Stands for the packaged checkpoint, wherever the package is installed."""
UNFINISHED = "unfinished"
"""Key of run.json: checkpoint and data of a sweep that has not ended."""
PIECES = {
    "table": ("outcome table", "sweep"),
    "search": ("search result", "search"),
    "policies": ("policy", "train-policy"),
    "field": ("field of policies", "train-policy --algo all"),
    "bench": ("bench", "bench"),
    "train": ("training run", "train"),
    "diagnosis": ("diagnosis", "diagnose"),
    "report": ("report", "report"),
}
"""Piece -> (what people call it, the command that makes it)."""


@dataclass(frozen=True)
class Run:
    """A run folder. Opening creates nothing; `claim` does."""

    folder: Path
    opened: float = field(default_factory=time.time)

    @classmethod
    def open(cls, path: str | Path | None = None) -> "Run":
        """The run folder at `path`, else at $ADAP_RUN, else `adap-run`. UsageError if it is a file."""
        folder = Path(path or os.environ.get("ADAP_RUN") or DEFAULT_FOLDER)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: is a file, not a run folder", "choose another folder with --run")
        return cls(folder)

    @property
    def table(self) -> Path:
        """Folder of the outcome table."""
        return self.folder / "table"

    @property
    def search(self) -> Path:
        """Folder of the search result."""
        return self.folder / "search"

    @property
    def policies(self) -> Path:
        """Folder of the policies, one sub-folder each."""
        return self.folder / "policies"

    @property
    def field(self) -> Path:
        """Folder of the field of policies."""
        return self.folder / "field"

    @property
    def bench(self) -> Path:
        """Folder of what was measured on hardware."""
        return self.folder / "bench"

    @property
    def train(self) -> Path:
        """Folder of a training run."""
        return self.folder / "train"

    @property
    def diagnosis(self) -> Path:
        """Folder of what was diagnosed."""
        return self.folder / "diagnosis"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.folder / "report"

    def policy_names(self) -> list[str]:
        """Names of the policies saved so far, in alphabetical order."""
        return sorted(path.parent.name for path in self.policies.glob("*/policy.json"))

    def has(self, piece: str) -> bool:
        """Whether `piece`, a key of PIECES, was made."""
        folder = self.folder / piece
        return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())

    def require(self, piece: str) -> Path:
        """The folder of `piece`.

        FileError naming the command that makes it if it is not there, or if run.json cannot be read: what is
        made now could not be recorded.
        """
        self.provenance()
        if not self.has(piece):
            name, command = PIECES[piece]
            hint = f"run `{self.command(command)}` first"
            if unfinished(self.folder / piece).is_dir():
                hint = f"it was interrupted: `{self.command(command)} --resume` finishes it"
            raise FileError(f"no {name} in {self.folder}", hint)
        return self.folder / piece

    def claim(
        self, piece: str, name: str = "", *, overwrite: bool = False, resume: bool | None = None
    ) -> Path:
        """The folder to write `piece` to (for policies: sub-folder `name`), with its parent made.

        resume: None for a command that cannot. UsageError if results, or the unfinished ones of an
        interrupted command, are there and neither is set, or if both are. FileError if run.json cannot be
        read: hours later it could not be written.
        """
        self.provenance()
        if overwrite and resume:
            raise UsageError("--overwrite and --resume exclude each other")
        target = self.folder / piece / name
        if target.is_file():
            raise UsageError(f"{target}: is a file, not a folder", "choose another run folder with --run")
        if not (overwrite or resume):
            _refuse_existing(target, can_resume=resume is not None)
        _make(target.parent)
        return target

    def provenance(self) -> dict[str, Any]:
        """What run.json holds: `commands`, and what they recorded, such as `checkpoint`, `data`, `seed`.

        Empty if there is none; FileError if it cannot be read.
        """
        path = self.folder / "run.json"
        if not path.exists():
            return {}
        hint = "it only tells how the results came about: move it away to go on without"
        try:
            content: Any = read_json(path)
        except FileError as error:
            raise FileError(error.message, hint) from error
        known = isinstance(content, dict) and content.get("schema_version") == SCHEMA_VERSION
        commands = content.get("commands", []) if known else None
        if not isinstance(commands, list) or not all(isinstance(command, dict) for command in commands):
            raise FileError(f"{path}: not a run.json of version {SCHEMA_VERSION}", hint)
        return dict(content)

    def record(self, **facts: Any) -> None:
        """Add the running command to run.json, with what it wants kept: JSON values by name.

        Facts are merged at the top level, a later command's over an earlier one's, and kept with the command;
        one that is None is removed there.
        """
        known = self.provenance() or {"schema_version": SCHEMA_VERSION, "created": _timestamp(self.opened)}
        facts = {name: _text(value) for name, value in facts.items()}
        command = {
            "command": _text(command_line()),
            "started": _timestamp(self.opened),
            "seconds": round(time.time() - self.opened, 3),
            "versions": {name: found for name, found in versions().items() if found},
            **{name: value for name, value in facts.items() if value is not None},
        }
        _make(self.folder)
        content = {**known, **facts, "commands": [*known.get("commands", []), command]}
        content = {name: value for name, value in content.items() if value is not None}
        write_json(self.folder / "run.json", content)

    def remember(self, **facts: Any) -> None:
        """Set facts at the top level of run.json, without a command; one that is None is removed."""
        known = self.provenance() or {"schema_version": SCHEMA_VERSION, "created": _timestamp(self.opened)}
        content = {name: _text(value) for name, value in {**known, **facts}.items() if value is not None}
        _make(self.folder)
        write_json(self.folder / "run.json", {"commands": [], **content})

    def portable(self, place: str | Path) -> str:
        """A checkpoint as run.json records it, so that the run can be moved.

        `packaged` for the packaged one; relative to the run folder if it is inside; else absolute; an address
        such as hf://owner/name as it is.
        """
        from adapcli.model.checkpoint import packaged

        text = str(place)
        if "://" in text:
            return text
        path = Path(text).expanduser()
        if path.resolve() == packaged().resolve():
            return PACKAGED
        return self._inside(path) or str(path.absolute())

    def checkpoint(self, *, unfinished: bool = False) -> str | None:
        """The checkpoint that this run last trained or swept, as it can be opened; None if there is none.

        unfinished: that of an interrupted sweep, if there is one. FileError if it is not there any more.
        """
        found = self._inputs(unfinished).get("checkpoint")
        recorded = found.get("path") if isinstance(found, dict) else found
        return None if not isinstance(recorded, str) else self.located(recorded)

    def located(self, recorded: str) -> str:
        """The inverse of `portable`. FileError if nothing is there."""
        from adapcli.model.checkpoint import packaged

        if recorded == PACKAGED:
            return str(packaged())
        if "://" in recorded:
            return recorded
        # Runs of earlier versions recorded paths relative to the working directory.
        for place in (self.folder / recorded, Path(recorded)):
            if place.exists():
                return str(place)
        raise FileError(
            f"{self.folder / recorded}: the checkpoint of this run is not there any more",
            "say where it is now with --ckpt",
        )

    def data(self, *, unfinished: bool = False) -> "DataSpec | None":
        """The data that this run last trained on or swept; None if there are none. See `checkpoint`."""
        found = self._inputs(unfinished).get("data")
        return self.reopened(found) if isinstance(found, dict) and "name" in found else None

    def _inputs(self, unfinished: bool) -> dict[str, Any]:
        known = self.provenance()
        begun = known.get(UNFINISHED) if unfinished else None
        return begun if isinstance(begun, dict) else known

    def portable_data(self, spec: "DataSpec") -> "DataSpec":
        """The same with an absolute path, or one relative to the run folder if the data are inside."""
        absolute = spec.absolute()
        kind, colon, place = absolute.name.partition(":")
        inside = self._inside(Path(place)) if colon else ""
        return replace(absolute, name=f"{kind}:{inside}") if inside else absolute

    def reopened(self, facts: Mapping[str, Any]) -> "DataSpec":
        """Data from what run.json or a table of this run says of them: the inverse of `portable_data`.

        FileError for a damaged record.
        """
        from adapcli.data.spec import DataSpec

        spec = DataSpec.from_dict(facts)
        kind, colon, place = spec.name.partition(":")
        inside = self.folder / place
        if colon and not Path(place).is_absolute() and inside.exists():
            return replace(spec, name=f"{kind}:{inside}")
        return spec

    def _inside(self, path: Path) -> str:
        """`path` relative to the run folder, or "" if it is not inside."""
        there, folder = path.resolve(), self.folder.resolve()
        return str(there.relative_to(folder)) if there != folder and there.is_relative_to(folder) else ""

    def command(self, command: str) -> str:
        """`adap COMMAND`, with --run where it is needed to find this folder."""
        default = os.environ.get("ADAP_RUN") or DEFAULT_FOLDER
        named = str(self.folder) == default
        return f"adap {command}" + ("" if named else f" --run {shlex.quote(str(self.folder))}")


def unfinished(target: Path) -> Path:
    """Where a command that can resume keeps its work until `target` is complete: beside it."""
    return target.with_name(f"{target.name}.partial")


def _refuse_existing(target: Path, *, can_resume: bool) -> None:
    ways = "--resume to go on or --overwrite to start again" if can_resume else "--overwrite to replace them"
    for folder, what in ((target, "results"), (unfinished(target), "an unfinished run")):
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"{folder} holds {what} already", f"add {ways}")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AdapError(
            f"cannot make {folder}: {error.strerror}", "choose another folder with --run"
        ) from error


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


_acting_as: ContextVar[tuple[str, ...] | None] = ContextVar("_acting_as", default=None)


@contextmanager
def acting_as(*words: object) -> Iterator[None]:
    """What is recorded inside is recorded as `adap WORDS`: for a command that runs others."""
    token = _acting_as.set(tuple(map(str, words)))
    try:
        yield
    finally:
        _acting_as.reset(token)


def command_line() -> str:
    """What was typed, or is acted as, without the password of a storage URL."""
    words = _acting_as.get() or sys.argv[1:]
    return re.sub(r"(://[^:/@\s]*:)[^@/\s]*@", r"\1***@", shlex.join(["adap", *words]))


def _text(value: Any) -> Any:
    """`value` with paths as text and bytes that are not text escaped, so that it can be JSON."""
    if isinstance(value, Mapping):
        return {str(key): _text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_text(item) for item in value]
    if isinstance(value, str | Path):
        return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value
