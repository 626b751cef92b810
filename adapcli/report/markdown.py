"""A report as Markdown, its figures beside it in figures/."""

import re

from adapcli.report import labels
from adapcli.report.document import (
    Answer,
    Block,
    Document,
    Drawing,
    Facts,
    Gallery,
    Grid,
    Missing,
    Section,
    Text,
)


def render(document: Document) -> str:
    """The report; text from users cannot become markup."""
    parts = [f"# {escape(document.title)}", escape(document.subtitle), *map(_answer, document.answers)]
    parts += [f"> {escape(warning)}" for warning in document.warnings]
    parts += [_section(section) for section in document.sections]
    parts.append(escape(f"Made {document.made} by adap {document.version}."))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """`text` on one line, with everything that Markdown or HTML would read as markup escaped."""
    return re.sub(r"([\\`*_{}\[\]<>#|&~])", r"\\\1", labels.readable(" ".join(text.split())))


def _answer(answer: Answer) -> str:
    lines = [
        f"**{escape(answer.label.capitalize())}.** **{escape(answer.headline)}**",
        escape(answer.numbers),
    ]
    return "  \n".join([*lines, *map(escape, answer.notes)])


def _section(section: Section) -> str:
    return "\n\n".join([f"## {escape(section.title)}", *map(_block, section.blocks)])


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return escape(block.text)
    if isinstance(block, Missing):
        return f"{escape(block.text)} Add it with {_code(block.command)}"
    if isinstance(block, Drawing):
        return f"![{escape(block.alt)}](figures/{block.name}.png)\n\n{escape(block.caption)}"
    if isinstance(block, Grid):
        return _grid(block)
    if isinstance(block, Facts):
        return "\n".join(f"- {escape(name)}: {escape(value)}" for name, value in block.items)
    return _gallery(block)


def _grid(block: Grid) -> str:
    if block.folded:
        return f"{escape(block.caption)}: [tables/{block.name}.csv](tables/{block.name}.csv)"
    text = len(block.columns) - block.numeric
    rule = ["---" if i < text else "---:" for i in range(len(block.columns))]
    rows = [[_cell(cell, i in block.strong) for cell in row] for i, row in enumerate(block.rows)]
    lines = [map(escape, block.columns), rule, *rows]
    return f"{escape(block.caption)}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str, strong: bool) -> str:
    return f"**{escape(text)}**" if strong and text else escape(text)


def _gallery(block: Gallery) -> str:
    lines = [f"- {escape(e.title)}: {escape('; '.join(e.lines))}" for e in block.examples]
    return "\n".join([f"{escape(block.caption)}\n", *lines])


def _code(text: str) -> str:
    """Code in more backticks than it contains."""
    text = labels.readable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"
