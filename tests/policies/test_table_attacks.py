"""Files that someone, or a bad disk, changed: refused with a FileError or read, never anything else."""

import json
import shutil
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from policies.errors import AdapError, FileError
from policies.table import OutcomeTable, OutcomeTableWriter

fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), min_size=1)


@pytest.fixture(scope="module")
def saved(make_table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacked") / "table"
    make_table(20).save(folder)
    return folder


@pytest.fixture(scope="module")
def begun(make_table, tmp_path_factory):
    table = make_table(20)
    folder = tmp_path_factory.mktemp("begun") / "table"
    writer = OutcomeTableWriter.create(
        folder,
        n_samples=20,
        configs=table.configs,
        increment_flops=table.increment_flops,
        signal_names=table.signal_names,
        feature_names=table.feature_names,
        feature_flops=0,
        meta={},
        chunk=8,
    )
    named = {"sample_ids": range(8), "targets": 0, "splits": "test"}
    writer.write(0, 8, **{name: array[:8] for name, array in table.arrays().items()}, **named)
    return folder


def edited(content, changes):
    content = bytearray(content)
    for place, replacement in changes:
        start = int(place * len(content))
        content[start : start + len(replacement)] = replacement
    return bytes(content)


def attack(folder, name, changes, call):
    """What a call gives with one file changed, None where it refuses; the file is put back."""
    path = folder / name
    good = path.read_bytes()
    path.write_bytes(edited(good, changes))
    try:
        with suppress(AdapError):
            return call()
    finally:
        path.write_bytes(good)


SMALL = ["meta.json", "configs.csv", "samples.csv", "increment_flops.npy", "checksums.json"]


@fuzz
@given(st.sampled_from(SMALL), edits)
def test_a_changed_file_is_refused(saved, name, changes):
    good = (saved / name).read_bytes()
    assume(edited(good, changes) != good)
    found = attack(saved, name, changes, lambda: OutcomeTable.load(saved, check=False))
    assert found is None or json.loads(edited(good, changes)) == json.loads(good)  # white space in JSON


@fuzz
@given(st.sampled_from(["score.npy", "signals.npy", "prediction.npy"]), edits, st.booleans())
def test_a_changed_array_is_refused_or_the_same(saved, name, changes, in_header):
    if in_header:
        changes = [(place * 0.02, replacement) for place, replacement in changes]
    found = attack(saved, name, changes, lambda: np.array(getattr(OutcomeTable.load(saved), name[:-4])))
    assert found is None or np.array_equal(found, np.load(saved / name))


@pytest.mark.parametrize("check", [True, False])
def test_arrays_that_changed_places_or_order_are_refused(saved, tmp_path, check):
    for number, change in enumerate((swapped, reversed_rows)):
        folder = tmp_path / str(number)
        shutil.copytree(saved, folder)
        change(folder)
        with pytest.raises(FileError, match=r"rows 0\.\.19: changed or damaged since it was written"):
            OutcomeTable.load(folder, check=check)


def swapped(folder):
    (folder / "score.npy").rename(folder / "x")
    (folder / "agreement.npy").rename(folder / "score.npy")
    (folder / "x").rename(folder / "agreement.npy")


def reversed_rows(folder):
    np.save(folder / "score.npy", np.load(folder / "score.npy")[::-1])


def test_a_table_without_checksums_is_refused(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "table")
    (tmp_path / "table" / "checksums.json").unlink()
    with pytest.raises(FileError, match="without checksums"):
        OutcomeTable.load(tmp_path / "table")


@fuzz
@given(
    st.sampled_from(["ledger/plan.json", "ledger/000000000.json", "ledger/000000000.csv", "score.npy"]), edits
)
def test_a_changed_table_under_way_is_resumed_or_refused(begun, name, changes):
    partial = begun.with_name("table.partial")
    marker = partial / "ledger" / "000000000.json"
    kept = marker.read_bytes()
    try:
        attack(partial, name, changes, lambda: OutcomeTableWriter.open(begun).pending())
    finally:
        marker.write_bytes(kept)


def test_a_header_that_nests_without_end(saved):
    path = saved / "score.npy"
    good = path.read_bytes()
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': " + b"(" * 4000 + b")" * 4000 + b"}\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(FileError, match=r"not a usable \.npy"):
        OutcomeTable.load(saved)
    path.write_bytes(good)


@pytest.mark.parametrize("dtype", ["V4", "U8", "M8[s]", [("a", "f4")], "c8"])
def test_arrays_that_are_no_numbers(saved, tmp_path, dtype):
    folder = tmp_path / "table"
    shutil.copytree(saved, folder)
    np.save(folder / "increment_flops.npy", np.zeros((18, 18), dtype))
    with pytest.raises(FileError, match="is not a type of number"):
        OutcomeTable.load(folder)


def test_a_plan_that_promises_too_much(begun):
    path = begun.with_name("table.partial") / "ledger" / "plan.json"
    good = path.read_text()
    for change in ({"n_samples": 10**12}, {"chunk": 0}, {"meta": {"arrays": {"../../x": {}}}}, {"meta": 3}):
        path.write_text(json.dumps(json.loads(good) | change))
        with pytest.raises(FileError):
            OutcomeTableWriter.open(begun)
    path.write_text(good)
