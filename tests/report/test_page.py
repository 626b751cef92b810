"""Hostile text in every field of a document, on the page and in Markdown."""

from html.parser import HTMLParser

import pandas as pd
import pytest

from adapcli.report import markdown, page, style
from adapcli.report.document import (
    Answer,
    Document,
    Drawing,
    Example,
    Facts,
    Gallery,
    Grid,
    Missing,
    Section,
    Text,
)

HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'`{{ 7 * 7 }}{% x %}"
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what a browser would fetch or run."""

    def __init__(self, source):
        super().__init__()
        self.stack, self.tags, self.fetched, self.attributes = [], [], [], []
        self.text, self.images = "", []
        self.feed(source)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        given = dict(attributes)
        assert len(given) == len(attributes), f"{tag}: an attribute twice"
        self.attributes += attributes
        self.fetched += [
            given[name] for name in ("src", "href", "xlink:href", "data", "action") if name in given
        ]
        if tag in ("img", "svg"):
            self.images.append(given)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text += data


@style.styled
def hostile_figure(layout):
    figure, axes = style.canvas(layout, 2)
    axes.plot([0, 1], [0, 1], label=HOSTILE)
    axes.set_title(HOSTILE)
    style.legend_below(figure, axes, layout)
    return figure


def hostile_document():
    frame = pd.DataFrame({"a": [HOSTILE]})
    blocks = [
        Text(HOSTILE),
        Missing(HOSTILE, HOSTILE),
        Drawing("figure", hostile_figure, HOSTILE, HOSTILE),
        Grid("grid", frame, [HOSTILE] * 6, [[HOSTILE] * 6], HOSTILE, 1, frozenset({0})),
        Grid("folded", frame, [HOSTILE], [[HOSTILE]], HOSTILE, 0, folded=True),
        Facts([(HOSTILE, HOSTILE)]),
        Facts([(HOSTILE, HOSTILE)], code=True),
        Gallery([Example(b"png", HOSTILE, [HOSTILE])], HOSTILE, HOSTILE),
    ]
    answers = [Answer(HOSTILE, HOSTILE, HOSTILE, [HOSTILE])]
    return Document(
        HOSTILE, HOSTILE, answers, [Section("anchor", HOSTILE, blocks)], HOSTILE, HOSTILE, [HOSTILE]
    )


@pytest.fixture(scope="module")
def hostile_page():
    document = hostile_document()
    return page.render(document, {drawing.name: page.inline(drawing) for drawing in document.drawings()})


def test_text_never_becomes_markup(hostile_page):
    parsed = Page(hostile_page)
    assert "script" not in parsed.tags
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert "alert(1)" in parsed.text


def test_text_never_becomes_a_template(hostile_page):
    assert "{{ 7 * 7 }}" in hostile_page
    assert "49" not in Page(hostile_page).text


def test_every_figure_has_a_text_for_those_who_cannot_see_it(hostile_page):
    images = Page(hostile_page).images
    assert len(images) == 3
    assert all(image.get("alt") or image.get("aria-label") for image in images)


def test_nothing_is_fetched(hostile_page):
    assert all(target.startswith(("#", "data:")) for target in Page(hostile_page).fetched)
    assert "url(http" not in hostile_page
    assert "@import" not in hostile_page


def test_control_characters_and_broken_text_are_written_out():
    grid = Grid("g", pd.DataFrame(), ["a"], [["\x1b[31m \udce9 \ud800"]], "\x00", 0)
    document = Document("t\x08", "s", [], [Section("x", "X", [grid])], "m", "v")
    for text in (page.render(document, {}), markdown.render(document)):
        assert text.encode("utf-8")
        assert all(character.isprintable() or character in "\n\u00a0" for character in text)


def test_amounts_do_not_break_across_lines():
    assert page.tied("2 000 of 81.3 % ± 0.4, 5 12") == "2\u00a0000 of 81.3\u00a0%\u00a0±\u00a00.4, 5 12"


def test_markdown_shows_hostile_text_as_text():
    text = markdown.render(hostile_document())
    for line in text.splitlines():
        if not line.startswith("![") and "Add it with" not in line:
            plain = line.replace("\\<", "").replace("\\>", "")
            assert "<" not in plain, line
            assert ">" not in plain.removeprefix("> "), line
    assert "\\<script\\>" in text


def test_a_cell_cannot_add_columns():
    grid = Grid("g", pd.DataFrame(), ["a", "b"], [["x | y", "line\nbreak"]], "c", 1)
    lines = markdown.render(Document("t", "s", [], [Section("x", "X", [grid])], "m", "v")).splitlines()
    assert "| x \\| y | line break |" in lines
    assert "| --- | ---: |" in lines


def test_code_keeps_its_backticks():
    assert markdown._code("adap sweep") == "`adap sweep`"
    assert markdown._code("a``b") == "``` a``b ```"
