"""The output object: what goes where, and that nothing in a text is ever obeyed."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapcli.console import Console, Heartbeat, clock_time, plain, printable

NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@dataclass
class Record:
    path: Path
    values: np.ndarray


def test_data_goes_to_stdout_and_talk_to_stderr(capsys):
    console = Console()
    console.print("data")
    console.say("talk")
    console.warn("careful")
    console.error("wrong", "do this")
    console.result({"a": 1})
    shown = capsys.readouterr()
    assert shown.out == "data\n"
    assert shown.err == "talk\nwarning: careful\nerror: wrong\nhint: do this\n"


def test_json_leaves_one_object_on_stdout(capsys):
    console = Console(json=True)
    console.print("data")
    console.table(["a"], [[1]], title="title")
    console.result({"value": float("nan")})
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "value": None}


def test_quiet_leaves_warnings_and_errors(capsys):
    console = Console(quiet=True)
    console.say("talk")
    with console.progress("job") as progress:
        progress(1, 1)
    console.warn("careful")
    assert capsys.readouterr().err == "warning: careful\n"


def test_plain_knows_arrays_records_and_paths():
    record = Record(Path("a"), np.array([1.5, np.nan, np.inf], np.float32))
    expected = {"r": [{"path": "a", "values": [1.5, None, None]}], "n": 3, "none": None}
    assert plain({"r": (record,), "n": np.int64(3), "none": np.float32("nan")}) == expected


@given(NESTED)
def test_plain_is_always_json(value):
    text = json.dumps(plain(value), allow_nan=False)
    assert plain(json.loads(text)) == plain(value)


@given(st.text(st.characters(exclude_categories=())))
def test_printable_text_can_neither_drive_a_terminal_nor_fail_to_print(text):
    shown = printable(text)
    assert all(c.isprintable() or c == "\n" for c in shown)
    shown.encode("utf-8")


def test_printable_leaves_text_alone():
    assert printable("[red] café\nnext") == "[red] café\nnext"
    assert printable("\x1b[31m\udcff\t") == "\\x1b[31m\\udcff\\t"


def test_tables_align_numbers_right_and_keep_every_cell_on_its_line(capsys):
    Console().table(["name", "n"], [["a\nb", 1], ["c", 2.5], ["[red]", None]], title="T")
    assert capsys.readouterr().out == "T\nname     n\na b      1\nc      2.5\n[red]    -\n"


def test_an_empty_table_shows_its_columns(capsys):
    Console().table(["name", "n"], [])
    assert capsys.readouterr().out == "name  n\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_clock_time(seconds, text):
    assert clock_time(seconds) == text


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_heartbeat_speaks_every_30_seconds_and_at_the_end(capsys):
    clock = Clock()
    beat = Heartbeat("sweep", clock=clock)
    for done in range(101):
        beat(done, 100, note=f"chunk {done}")
        clock.now += 1
    assert capsys.readouterr().err.splitlines() == [
        "sweep: 30/100, 0:30 elapsed, about 1:10 left, chunk 30",
        "sweep: 60/100, 1:00 elapsed, about 0:40 left, chunk 60",
        "sweep: 90/100, 1:30 elapsed, about 0:10 left, chunk 90",
        "sweep: 100/100, 1:40 elapsed, chunk 100",
    ]


def test_what_was_done_before_resuming_does_not_count_as_speed(capsys):
    clock = Clock()
    beat = Heartbeat("sweep", clock=clock)
    beat(50, 100)
    clock.now = 30
    beat(60, 100)
    assert capsys.readouterr().err == "sweep: 60/100, 0:30 elapsed, about 2:00 left\n"


def test_on_a_terminal_a_table_is_drawn_and_still_shows_every_cell(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    Console().table(["what", "found"], [["[red]name", 12], ["b", None]], title="things")
    shown = capsys.readouterr().out
    assert all(cell in shown for cell in ("things", "what", "found", "[red]name", "12", "-"))


WIDE = (
    [
        "policy",
        "accuracy %",
        "95 % interval",
        "cost",
        "of full",
        "saves: vs full",
        "vs static",
        "seeds",
        "time",
    ],
    [
        ["threshold", 84.0, "75.58 .. 89.90", "1.051 MFLOPs", 0.128, "87.2 %", "-17.7 %", 1, "0:12"],
        [
            "same-answer oracle (not achievable)",
            85.0,
            "76.72 .. 90.69",
            "539.4 kFLOPs",
            None,
            "",
            "x",
            3,
            "0:01",
        ],
    ],
)


@pytest.fixture
def terminal(monkeypatch, capsys):
    """What a table looks like on a terminal of so many columns, without colours."""

    def show(columns, *table, **options):
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))
        Console().table(*table, **options)
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)

    return show


@pytest.mark.parametrize("columns", [20, 60, 80, 100, 200])
def test_no_word_of_a_table_is_cut_on_a_narrow_terminal(columns, terminal):
    heads, rows = WIDE
    shown = terminal(columns, heads, rows, title="title")
    words = {
        word for cell in [*heads[1:], *rows[0], *rows[1]] for word in str(cell).split() if cell is not None
    }
    assert words - {"84.0", "85.0"} <= set(shown.split())
    assert "…" not in shown
    if columns >= 60:
        assert max(map(len, shown.splitlines())) <= columns


def test_a_table_that_fits_has_one_line_per_row(terminal):
    (line,) = [line for line in terminal(150, *WIDE).splitlines() if "threshold" in line]
    assert "75.58 .. 89.90" in line
    assert "1.051 MFLOPs" in line


def test_where_not_even_words_fit_each_row_is_a_block(terminal):
    shown = terminal(30, ["", *WIDE[0]], [["*", *row] for row in WIDE[1]])
    assert shown.startswith("\n* threshold\n  accuracy %      84\n  95 % interval   75.58 .. 89.90\n")
    assert "\n\n* same-answer oracle (not achievable)\n" in shown


def test_a_path_in_a_narrow_table_is_broken_and_whole(terminal):
    path = "/a/" + "long/" * 12 + "m.pt"
    shown = terminal(40, ["what", "found"], [["checkpoint", path], ["x", 1]])
    assert path in "".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 40
