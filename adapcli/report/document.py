"""A report as data: sections of a few kinds of blocks, from which a page, a text and files are made.

Text in blocks is plain text; whoever renders it escapes it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from adapcli.report.style import Layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Missing:
    """Something the run does not hold yet, and the command that adds it."""

    text: str
    command: str


@dataclass(frozen=True)
class Drawing:
    """A figure. name: of its files; draw: layout -> Figure; alt: for those who cannot see it."""

    name: str
    draw: "Callable[[Layout], Figure]"
    alt: str
    caption: str


@dataclass(frozen=True)
class Grid:
    """A table. frame: the numbers, as written to CSV; columns and rows: what is shown, as text.

    numeric: how many columns, from the right, hold numbers; strong: rows to stress; quiet: rows to tone down;
    folded: hidden behind a line to click, for long tables.
    """

    name: str
    frame: pd.DataFrame
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    numeric: int
    strong: frozenset[int] = frozenset()
    quiet: frozenset[int] = frozenset()
    folded: bool = False


@dataclass(frozen=True)
class Facts:
    """Names and values; `code` values are commands or digests."""

    items: Sequence[tuple[str, str]]
    code: bool = False


@dataclass(frozen=True)
class Example:
    """A picture of the data: PNG bytes, and lines under it. good: whether the answer was right."""

    png: bytes
    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Gallery:
    """Pictures in order. strips: each several panels wide, shown whole; else cut to squares."""

    examples: Sequence[Example]
    alt: str
    caption: str
    strips: bool = False


Block = Text | Missing | Drawing | Grid | Facts | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it. anchor: its name in links."""

    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Answer:
    """One line of the verdict: what to do, the numbers, and what to know about them."""

    label: str
    headline: str
    numbers: str
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Document:
    """A whole report. answers: the verdict; made: when, as text; subtitle: what was run on what."""

    title: str
    subtitle: str
    answers: Sequence[Answer]
    sections: Sequence[Section]
    made: str
    version: str
    warnings: Sequence[str] = field(default_factory=tuple)

    def drawings(self) -> Iterator[Drawing]:
        """Every figure, in reading order."""
        return (block for section in self.sections for block in section.blocks if isinstance(block, Drawing))

    def grids(self) -> Iterator[Grid]:
        """Every table, in reading order."""
        return (block for section in self.sections for block in section.blocks if isinstance(block, Grid))
