"""A report as one HTML page that needs nothing else: no network, no script, no other file."""

import base64
import re
from importlib.resources import files

from adapcli.report import style
from adapcli.report.document import Block, Document, Drawing


def render(document: Document) -> str:
    """The page. Every text is escaped, figures are inline SVG in two layouts, pictures are base64 PNG."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["tied"] = tied
    environment.filters["kind"] = kind
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    environment.globals["svg"] = lambda drawing: Markup(_both(drawing))
    source = files("adapcli.report").joinpath("template.html").read_text("utf-8")
    light, dark = _colours(document)
    return environment.from_string(source).render(document=document, light=light, dark=dark) + "\n"


def kind(block: Block) -> str:
    """What the template calls a block."""
    return type(block).__name__.lower()


def tied(text: str) -> str:
    """`text` that does not break inside an amount: 2 000, 83.1 %, ± 0.4."""
    return re.sub(r"(?<=\d) (?=\d{3}(?!\d)|%|±)|(?<=±) ", "\u00a0", text)


def _both(drawing: Drawing) -> str:
    """The figure for wide and for narrow screens; the style sheet shows one of them."""
    parts = []
    for layout in style.LAYOUTS:
        svg = style.inline_svg(drawing.draw(layout), f"{drawing.name}-{layout.name}", alt=drawing.alt)
        parts.append(f'<div class="{layout.name}">{svg}</div>')
    return "".join(parts)


def _colours(document: Document) -> tuple[dict[str, str], dict[str, str]]:
    """CSS variable -> colour, on a light and on a dark page."""
    dark = style.dark_colours()
    return {style.variable(c): c for c in dark}, {style.variable(c): dark[c] for c in dark}
