import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from adapcli.report import style

HOSTILE = "<script>alert('$x_1$')</script> & \"q\""


@style.styled
def drawing(label=HOSTILE):
    figure, axes = style.canvas(style.WIDE, 3)
    axes.plot([1, 2], [3, 4], color=style.BLUE, label=label)
    axes.errorbar([1], [3], [[0.1], [0.2]], color=style.ramp(5)[2])
    axes.set_title(label)
    style.legend_below(figure, axes, style.WIDE)
    return figure


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_reads_and_marks_stand_out_on_both_papers(dark):
    shown = {colour: style.DARK[colour] if dark else colour for colour in style.DARK}
    paper = shown[style.PAPER]
    assert contrast(shown[style.INK], paper) > 10
    assert contrast(shown[style.MUTED], paper) > 4.5  # WCAG AA for text
    assert all(contrast(shown[colour], paper) > 3 for colour in style.SERIES)  # WCAG AA for graphics


def test_a_ramp_goes_one_way_and_every_shade_has_a_dark_one():
    light = style.ramp(21)
    values = [luminance(colour) for colour in light]
    assert values == sorted(values, reverse=True)
    assert len(set(light)) == 21
    assert set(light) <= set(style.dark_colours())


def test_drawing_leaves_the_users_settings_alone():
    with mpl.rc_context({"font.size": 23.0, "text.usetex": False}):
        before = dict(mpl.rcParams)
        style.to_svg(drawing())
        assert dict(mpl.rcParams) == before


def test_the_users_settings_leave_drawing_alone():
    plain = style.to_svg(drawing())
    with mpl.rc_context({"font.size": 23.0, "axes.grid": False, "svg.hashsalt": "other"}):
        assert style.to_svg(drawing()) == plain


def test_the_same_figure_gives_the_same_bytes():
    assert style.to_png(drawing()) == style.to_png(drawing())
    assert style.to_svg(drawing()) == style.to_svg(drawing())
    assert style.inline_svg(drawing(), "a", alt="x") == style.inline_svg(drawing(), "a", alt="x")


def test_hostile_text_stays_text():
    svg = style.inline_svg(drawing(), "a", alt=HOSTILE)
    root = ET.fromstring(svg)
    assert not list(root.iter("script"))
    assert HOSTILE in [element.text for element in root.iter("text")]
    assert root.get("aria-label") == HOSTILE


def test_inline_figures_share_no_ids_and_point_at_their_own():
    first, second = (style.inline_svg(drawing(), name, alt="") for name in ("a", "b"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert not ids[0] & ids[1]
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', first)) <= ids[0]


def test_inline_figures_follow_the_page():
    svg = style.inline_svg(drawing("a"), "a", alt="")
    assert f"var({style.variable(style.BLUE)})" in svg
    assert not re.search(r'style="[^"]*#[0-9a-f]{6}', svg)
    assert "DejaVu" not in svg
    assert "<style" not in svg  # it would reach the whole page
    assert "http" not in svg


def test_a_glyph_that_the_font_lacks_is_no_warning():
    style.to_png(drawing("数字 🦊"))


def test_a_backend_that_is_not_installed_stops_no_figure():
    """Notebooks and IDEs leave MPLBACKEND in the environment of what they start."""
    code = (
        "import os; from adapcli.report import style; style.canvas(style.WIDE, 3); style.ramp(3); "
        "assert os.environ['MPLBACKEND'] == 'module://nowhere'"
    )
    environment = os.environ | {"MPLBACKEND": "module://nowhere"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_matplotlib_is_imported_in_one_place():
    root = Path(style.__file__).parents[1]
    assert [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in root.rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom) and "matplotlib" in ast.unparse(node)
    ] == []
