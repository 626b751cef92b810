"""The output object: what goes where, and that nothing in a text is ever obeyed."""

import json
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
