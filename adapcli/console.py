"""The one output object: data to stdout, talk to stderr.

Text from users and files goes through `printable`, and is never read as markup.
"""

import dataclasses
import json as json_module
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

SCHEMA_VERSION = 1
HEARTBEAT_S = 30.0
COLOURS = {"error": "1;31", "warning": "33", "hint": "36"}


class Progress(Protocol):
    """What the library calls to tell how far a job is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units are finished; `note` is a short remark such as a loss."""


class Console:
    """Shows a command's results and progress. `json`: stdout holds one object; `quiet`: no talk.

    `muted`: errors alone are shown, because another process shows the rest.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False, muted: bool = False) -> None:
        self.json = json or muted
        self.quiet = quiet or muted
        self.muted = muted

    def print(self, text: str = "") -> None:
        """A line of data for people, on stdout (nothing with --json)."""
        if not self.json:
            print(printable(text))

    def write(self, line: str) -> None:
        """A line of data for programs, as it is, on stdout (nothing with --json)."""
        if not self.json:
            print(line)

    def say(self, text: str) -> None:
        """A line of talk, on stderr (nothing with --quiet)."""
        if not self.quiet:
            _talk(printable(text))

    def warn(self, text: str) -> None:
        """Something to know even with --quiet, on stderr."""
        if not self.muted:
            _labelled("warning", text)

    def error(self, message: str, hint: str = "") -> None:
        """Why the command failed, and what to do next, on stderr."""
        with suppress(OSError):  # the error is what matters
            sys.stdout.flush()
        _labelled("error", message)
        if hint:
            _labelled("hint", hint)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
        """Rows for people, on stdout (nothing with --json). Numbers are right-aligned.

        On a terminal a rich table that folds to its width; elsewhere plain lines, one per row.
        """
        if self.json:
            return
        if sys.stdout.isatty():
            _rich_table(columns, list(rows), title)
            return
        if title:
            self.print(title)
        for line in _aligned([columns, *rows]):
            self.print(line)

    def result(self, content: Mapping[str, Any]) -> None:
        """With --json, the one object on stdout; numbers that are not finite become null."""
        if self.json and not self.muted:
            print(
                json_module.dumps({"schema_version": SCHEMA_VERSION, **plain(dict(content))}, allow_nan=False)
            )

    @contextmanager
    def progress(self, label: str) -> Iterator[Progress]:
        """Progress of one job on stderr: a bar with ETA on a terminal, else a line every 30 s."""
        if self.quiet:
            yield lambda done, total, note="": None
        elif sys.stderr.isatty():
            with _bar(label) as bar:
                yield bar
        else:
            yield Heartbeat(label)


class Heartbeat:
    """A progress line at most every `every` seconds, and one at the end; for logs and pipes."""

    def __init__(
        self, label: str, every: float = HEARTBEAT_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label, self._every, self._clock = label, every, clock
        self._start = self._last = clock()
        self._first: int | None = None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Tell `done` of `total`, if it is time to."""
        now = self._clock()
        if self._first is None:
            self._first = done
        if now - self._last < self._every and done < total:
            return
        self._last = now
        elapsed = clock_time(now - self._start)
        line = f"{self._label}: {done}/{total}, {elapsed} elapsed{self._left(done, total, now)}"
        _talk(printable(f"{line}, {note}" if note else line))

    def _left(self, done: int, total: int, now: float) -> str:
        advanced = done - (self._first or 0)
        if advanced <= 0 or done >= total:
            return ""
        return f", about {clock_time((now - self._start) / advanced * (total - done))} left"


@contextmanager
def _bar(label: str) -> Iterator[Progress]:
    from rich import progress as rich_progress
    from rich.console import Console as RichConsole

    columns = (
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(elapsed_when_finished=True),
        rich_progress.TextColumn("{task.fields[note]}", markup=False),
    )
    # Rich would send what is printed meanwhile to its own console: data would leave stdout for stderr.
    with rich_progress.Progress(*columns, console=RichConsole(stderr=True), redirect_stdout=False) as display:
        task = display.add_task(label, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            display.update(task, completed=done, total=total, note=printable(note))

        yield advance


def clock_time(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def printable(text: str) -> str:
    """`text` with control characters and broken encodings escaped: a file name cannot drive the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def plain(value: Any) -> Any:
    """`value` in JSON's own types: arrays become lists, dataclasses objects, NaN and infinity None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str) -> None:
    """Draw a table as wide as the terminal: nothing is cut.

    Too wide, it is set closer and cells fold at spaces; where even words do not fit, each row becomes a block
    of lines, one per column.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    console = RichConsole()
    cells = [[_cell(value) for value in row] for row in rows]
    heads = [printable(column) for column in columns]
    fits = _width_of(heads, cells) + 3 * len(heads) + 1 <= console.width
    widths = None if fits else _folded_widths(heads, cells, console.width - 2 * (len(heads) - 1))
    if not fits and widths is None:
        _print_blocks(heads, cells, title)
        return
    table = Table(box=SIMPLE_HEAD, title=Text(printable(title)) if title else None, title_justify="left")
    if widths:
        table.show_edge, table.pad_edge, table.padding = False, False, (0, 1, 0, 0)
    for index, head in enumerate(heads):
        right = all(_is_number(row[index]) for row in rows)
        width = widths[index] if widths else None
        table.add_column(
            Text(head), justify="right" if right else "left", overflow="fold", width=width, no_wrap=fits
        )
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def _width_of(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    return sum(max(map(_columns, column)) for column in zip(heads, *cells, strict=True))


def _columns(text: str) -> int:
    """Columns of a terminal that a line takes; some letters take two."""
    from rich.cells import cell_len

    return cell_len(text)


def _folded_widths(heads: Sequence[str], cells: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Widths of columns folded at spaces that sum up to `room` at most; None if words do not fit.

    As many columns as possible stay unfolded. Words that are longer than half of a table of two or three
    columns, such as paths, are broken.
    """
    columns = list(zip(heads, *cells, strict=True))
    longest = room // 2 if len(heads) <= 3 else room
    words = [max((_columns(w) for text in column for w in text.split()), default=1) for column in columns]
    widths = [max(1, min(width, longest)) for width in words]
    left = room - sum(widths)
    if left < 0:
        return None
    missing = [max(map(_columns, column)) - width for column, width in zip(columns, widths, strict=True)]
    for index in sorted(range(len(widths)), key=lambda index: missing[index]):
        added = min(left, max(0, missing[index]))
        widths[index] += added
        left -= added
    return widths


def _print_blocks(heads: Sequence[str], cells: Sequence[Sequence[str]], title: str) -> None:
    labels = 1 if heads[0] else 2  # a first column without a name holds marks
    width = max(map(len, heads[labels:]), default=0)
    if title:
        print(printable(title))
    for row in cells:
        print("\n" + " ".join(filter(None, row[:labels])))
        for head, value in zip(heads[labels:], row[labels:], strict=True):
            print(f"  {head.ljust(width)}  {value}")


def _aligned(rows: Sequence[Sequence[object]]) -> list[str]:
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [all(_is_number(row[i]) for row in rows[1:]) for i in range(len(widths))]
    lines = []
    for row in cells:
        padded = (
            c.rjust(width) if is_right else c.ljust(width)
            for c, width, is_right in zip(row, widths, right, strict=True)
        )
        lines.append("  ".join(padded).rstrip())
    return lines


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"  # no exponent beside digits
    return printable(str(value)).replace("\n", " ")


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _labelled(label: str, text: str) -> None:
    start = f"\x1b[{COLOURS[label]}m{label}:\x1b[0m" if _coloured(sys.stderr) else f"{label}:"
    _talk(f"{start} {printable(text.replace(chr(10), ' '))}")


def _talk(line: str) -> None:
    """A line on stderr. Where that is full, or a terminal that is gone, the work goes on without."""
    try:
        # print, not a console of rich: while a bar is shown, it puts what is printed above itself.
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Point a stream that can no longer be written at nothing, so that Python's last flush does not fail."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _coloured(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
