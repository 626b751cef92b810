"""A report as one HTML page that needs nothing else: no network, no script, no other file."""

import base64
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING

from adapcli.report import labels, style
from adapcli.report.document import Block, Document, Drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(document: Document, drawn: Mapping[str, str]) -> str:
    """The page; every text in it is escaped. drawn: name -> figure, as `inline` gives it."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: labels.readable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"tied": tied, "kind": kind, "base64": _base64}
    source = files("adapcli.report").joinpath("template.html").read_text("utf-8")
    svg = {name: Markup(figure) for name, figure in drawn.items()}
    light, dark = _colours("".join(drawn.values()))
    page = environment.from_string(source).render(document=document, svg=svg, light=light, dark=dark)
    return page + "\n"


def kind(block: Block) -> str:
    """What the template calls a block."""
    return type(block).__name__.lower()


def tied(text: str) -> str:
    """`text` that does not break inside an amount: 2 000, 83.1 %, ± 0.4."""
    return re.sub(r"(?<=\d) (?=\d{3}(?!\d)|%)|(?<=[\d%]) (?=±)|(?<=±) ", "\u00a0", text)


def inline(drawing: Drawing, wide: "Figure | None" = None) -> str:
    """The figure as SVG for wide and for narrow screens; the style sheet shows one of them.

    wide: the figure as already drawn for wide screens, if it was.
    """
    parts = []
    for layout in style.LAYOUTS:
        figure = wide if wide is not None and layout == style.WIDE else drawing.draw(layout)
        svg = style.inline_svg(figure, f"{drawing.name}-{layout.name}", alt=drawing.alt)
        parts.append(f'<div class="{layout.name}">{svg}</div>')
    return "".join(parts)


def _colours(svg: str) -> tuple[dict[str, str], dict[str, str]]:
    """CSS variable -> colour, on a light and on a dark page, for the colours that figures use."""
    dark = {c: d for c, d in style.dark_colours().items() if f"var({style.variable(c)})" in svg}
    return {style.variable(c): c for c in dark}, {style.variable(c): dark[c] for c in dark}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
