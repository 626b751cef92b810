"""One look for every figure: palette, type, layouts, and the way from a Figure to SVG and PNG.

matplotlib is imported on first use, and used through its object-oriented interface only: drawing leaves no
global state behind.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from adapcli.report import labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Parameters = ParamSpec("Parameters")

INK, MUTED, FAINT, PAPER = "#1f2328", "#5b646e", "#e3e6e9", "#ffffff"
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = (
    "#0b6bb0",
    "#c8501a",
    "#138a66",
    "#b97a06",
    "#a8558a",
    "#3d9bd3",
)
"""Okabe and Ito's colour-blind safe palette (2008), darkened where too pale for thin lines on white."""

# Light colour -> the same role on a dark page.
DARK = {
    INK: "#e6e9ec",
    MUTED: "#9aa4ae",
    FAINT: "#31373e",
    PAPER: "#15181c",
    BLUE: "#58a9e6",
    VERMILLION: "#f0834a",
    GREEN: "#3fbf95",
    ORANGE: "#e0a63a",
    PURPLE: "#d58cbb",
    SKY: "#86c5ee",
}
SERIES = (VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLUE)
MARKERS = ("o", "D", "^", "v", "P", "X")
# Few to many: pale to deep on white, deep to pale on black, so that "more" always stands out more.
RAMP_LIGHT = ("#b9d6ea", "#6fb0d8", "#2f86c1", "#0f5c99", "#0a3a66")
RAMP_DARK = ("#1f4a6b", "#2f6f9f", "#4f9ad0", "#8cc3ea", "#d3e9fa")

SETTINGS: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$x^2$"
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.minor.visible": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "adap",
}


@dataclass(frozen=True)
class Layout:
    """Where a figure is shown. width: inches; columns: how many small multiples stand side by side."""

    name: str
    width: float
    columns: int

    @property
    def narrow(self) -> bool:
        """Whether this is a phone."""
        return self.columns == 1


WIDE = Layout("wide", 8.6, 3)
NARROW = Layout("narrow", 4.3, 1)
LAYOUTS = (WIDE, NARROW)


def styled(draw: "Callable[Parameters, Figure]") -> "Callable[Parameters, Figure]":
    """Draw and lay out with the house settings, whatever the user's matplotlibrc says."""

    @wraps(draw)
    def drawn(*args: Parameters.args, **kwargs: Parameters.kwargs) -> "Figure":
        with settings():
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, however often it is saved
            return figure

    return drawn


@contextmanager
def settings(**changes: Any) -> Iterator[None]:
    """The house settings on top of matplotlib's defaults, for the length of a block."""
    from adapcli.plotting import rc_context, rcdefaults, rcParams

    with warnings.catch_warnings(), rc_context():
        # A class name may need a glyph that the font lacks: the page's own fonts have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        rcdefaults()
        parameters: Any = rcParams
        parameters.update(SETTINGS | changes)
        yield


def canvas(
    layout: Layout, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> "tuple[Figure, Any]":
    """A figure of the layout's width and `height` inches, and its axes: one, or an array of them."""
    from adapcli.plotting import Figure

    figure = Figure(figsize=(layout.width, height))
    return figure, figure.subplots(rows, columns, **options)


def legend_below(figure: "Figure", axes: "Axes", layout: Layout) -> None:
    """One legend for the figure, outside the axes, under them, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [shortened(label, 48) for label in labels]
    inches = 0.45 + 0.065 * max(map(len, labels), default=0)
    columns = min(max(1, int(layout.width / inches)), len(labels), 4)
    figure.legend(handles, labels, loc="outside lower left", ncols=columns)


def shortened(text: str, length: int) -> str:
    """`text` on one line, with its end replaced by an ellipsis if it is longer than `length`."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def ramp(count: int) -> list[str]:
    """`count` colours from few to many, as on a light page."""
    return _between(RAMP_LIGHT, count)


@cache
def dark_colours(count: int = 64) -> dict[str, str]:
    """Every colour that figures use -> what it becomes on a dark page; ramps of up to `count` colours."""
    colours = dict(DARK)
    for n in range(1, count + 1):
        colours.update(zip(_between(RAMP_LIGHT, n), _between(RAMP_DARK, n), strict=True))
    return colours


def _between(stops: Sequence[str], count: int) -> list[str]:
    from adapcli.plotting import colors

    shades = colors.LinearSegmentedColormap.from_list("ramp", list(stops))
    return [colors.to_hex(shades(0.6 if count == 1 else i / (count - 1))) for i in range(count)]


def to_png(figure: "Figure", dpi: int = 160) -> bytes:
    """The figure on white, as bytes of a PNG; the same figure gives the same bytes."""
    with settings():
        return _saved(figure, format="png", dpi=dpi, facecolor=PAPER, metadata={"Software": None})


def to_svg(figure: "Figure", *, text: bool = False) -> str:
    """The figure as SVG. `text`: letters stay letters, set in the reader's fonts, rather than outlines."""
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with settings(**{"svg.fonttype": "none" if text else "path"}):
        return _saved(figure, format="svg", metadata=metadata).decode("utf-8")


def _saved(figure: "Figure", **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, **options)
    return buffer.getvalue()


def inline_svg(figure: "Figure", name: str, *, alt: str) -> str:
    """An `<svg>` element for a page: scales with it, follows its colours and fonts, shares no ids.

    name: prefix of the ids, distinct per figure; alt: what a person who cannot see it is told.
    """
    from markupsafe import escape

    source = to_svg(figure, text=True)
    body = source[source.index("<svg") :]
    opening, rest = body.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', opening)
    assert view is not None
    rest = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", rest, flags=re.DOTALL)
    rest = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", rest).replace("xlink:href", "href")
    return f'<svg {view[0]} role="img" aria-label="{escape(labels.readable(alt))}">{_themed(rest)}'


def _themed(svg: str) -> str:
    """Colours by role instead of by value, and the page's font, in the style attributes of an SVG."""
    colours = dark_colours()

    def restyle(match: re.Match[str]) -> str:
        style = re.sub(
            r"#[0-9a-f]{6}", lambda c: f"var({variable(c[0])})" if c[0] in colours else c[0], match[0]
        )
        return re.sub(r"(font(?:-family)?:[^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1inherit", style)

    return re.sub(r'style="[^"]*"', restyle, svg)


def variable(colour: str) -> str:
    """The name of the CSS variable that stands for a colour of the light page."""
    return f"--c{colour.removeprefix('#')}"
