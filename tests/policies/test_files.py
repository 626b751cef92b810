"""Files are whole or absent, and reading them executes nothing."""

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import files
from policies.errors import AdapError, BusyError, FileError
from policies.files import (
    WORKPLACE,
    ArrayFile,
    Lock,
    atomic_file,
    atomic_folder,
    install_folder,
    read_csv,
    read_json,
    recovered,
    write_bytes,
    write_csv,
    write_json,
    write_text,
)


def python(code, *arguments):
    """Run `code` in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


# Writing a file


def test_the_new_content_replaces_the_old_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o000, 0o666)])
def test_permissions_are_those_the_umask_asks_for(tmp_path, umask, mask, mode):
    umask(mask)
    write_bytes(tmp_path / "file", b"")
    with atomic_folder(tmp_path / "folder") as scratch:
        write_bytes(scratch / "inside", b"")
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    assert (tmp_path / "folder" / "inside").stat().st_mode & 0o777 == mode
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask


def test_the_umask_is_never_changed_not_even_for_a_moment_that_another_thread_could_see(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the umask belongs to the whole process"))
    write_bytes(tmp_path / "file", b"")
    fill(tmp_path / "folder", b"")


def test_a_process_killed_while_writing_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = """
        import os, signal, sys
        from policies import files
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        files.write_bytes(sys.argv[1], b"new" * 100)
    """
    assert python(code, path).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    write_bytes(path, b"newer")  # what the killed process left does not stand in the way
    assert path.read_bytes() == b"newer"


def test_a_full_disk_is_one_line_and_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = """
        import resource, sys
        from policies import files
        from policies.errors import AdapError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            files.write_bytes(sys.argv[1], bytes(10_000))
        except AdapError as error:
            print(error.exit_code, error.message, error.hint)
    """
    told = python(code, path)
    assert told.stdout.startswith(f"1 cannot write {path}: "), told
    assert "intact" in told.stdout
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "raised", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()]
)
def test_whatever_interrupts_a_write_leaves_the_old_content_alone(tmp_path, monkeypatch, raised):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupt(_):
        raise raised

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(AdapError if isinstance(raised, OSError) else type(raised)):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_places_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for path in (tmp_path / "file" / "below", tmp_path / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(AdapError, match="cannot write"):
            write_bytes(path, b"")
    assert names(tmp_path) == ["file", "folder"]
    assert names(tmp_path / "folder") == ["inside"]


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "caf\udce9", "[red]", " ", "a\nb"])
def test_any_name_the_file_system_takes_can_be_written(tmp_path, name):
    write_bytes(tmp_path / name, b"content")
    assert (tmp_path / name).read_bytes() == b"content"
    with atomic_folder(tmp_path / "f" / name) as scratch:
        write_bytes(scratch / "inside", b"")
    assert names(tmp_path / "f" / name) == ["inside"]


@pytest.mark.parametrize("text", ["plain", "Übergröße 数字", "", "caf\udce9", "half \ud800 pair"])
def test_any_text_can_be_written(tmp_path, text):
    write_text(tmp_path / "file", text)
    assert (tmp_path / "file").read_bytes().decode("utf-8", "surrogateescape").startswith(text[:4])


def test_bytes_of_names_come_out_of_a_text_as_they_went_in(tmp_path):
    write_text(tmp_path / "file", os.fsdecode(b"caf\xe9.png"))
    assert (tmp_path / "file").read_bytes() == b"caf\xe9.png"


# JSON

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(JSON.filter(lambda content: "\\ud8" not in json.dumps(content)))
def test_json_comes_back_as_it_was(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "round-trip.json"
    write_json(path, content)
    assert read_json(path) == content
    assert json.loads(path.read_text("utf-8")) == content  # and is JSON for anyone


def test_a_path_that_is_no_utf8_survives_json(tmp_path):
    name = os.fsdecode(b"caf\xe9.pt")
    write_json(tmp_path / "run.json", {"checkpoint": name})
    assert read_json(tmp_path / "run.json") == {"checkpoint": name}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")], {"a": float("nan")}])
def test_nan_is_refused_and_the_old_file_stays(tmp_path, value):
    write_json(tmp_path / "file", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file", value)
    assert read_json(tmp_path / "file") == 1
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"hello", "Expecting value"),
        (b"{'a': 1}", "Expecting property name"),
        (b'{"a": 1', "Expecting"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"[1e999]", "out of range"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"9" * 10_000, "integer string conversion"),
        (b"\xff\xfe\x00", "can't decode"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (pickle.dumps({"a": 1}), "can't decode"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_json_is_refused_with_a_reason(tmp_path, content, reason):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(FileError, match=reason) as caught:
        read_json(path)
    assert str(path) in caught.value.message


def test_json_that_is_too_large_missing_or_a_folder_is_refused(tmp_path):
    (tmp_path / "large.json").write_bytes(b"[" + b"1," * 1000 + b"1]")
    with pytest.raises(FileError, match="larger than"):
        read_json(tmp_path / "large.json", max_bytes=1000)
    assert len(read_json(tmp_path / "large.json")) == 1001
    with pytest.raises(FileError, match="no such file"):
        read_json(tmp_path / "absent.json")
    with pytest.raises(FileError, match="not a regular file"):
        read_json(tmp_path)


def test_a_pipe_or_a_device_in_place_of_json_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "device.json").symlink_to("/dev/zero")
    for name in ("pipe.json", "device.json"):
        with pytest.raises(FileError, match="not a regular file"):
            read_json(tmp_path / name)


# Folders


def fill(folder, content, *, overwrite=False):
    with atomic_folder(folder, overwrite=overwrite) as scratch:
        write_bytes(scratch / "a", content)
        write_bytes(scratch / "b", content)


def test_a_folder_appears_whole(tmp_path):
    with atomic_folder(tmp_path / "deep" / "folder") as scratch:
        write_bytes(scratch / "a", b"1")
        assert not (tmp_path / "deep" / "folder").exists()
        assert scratch.parent == tmp_path / "deep"  # the same file system, or a rename would not be atomic
    assert names(tmp_path / "deep") == ["folder"]


def test_an_existing_folder_is_replaced_only_when_asked(tmp_path):
    fill(tmp_path / "folder", b"old")
    with pytest.raises(FileError, match="exists already"):
        fill(tmp_path / "folder", b"new")
    assert (tmp_path / "folder" / "a").read_bytes() == b"old"
    with atomic_folder(tmp_path / "folder", overwrite=True) as scratch:
        write_bytes(scratch / "a", b"new")
    assert names(tmp_path / "folder") == ["a"]  # nothing of the old one shines through
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("raised", [ValueError("inside"), KeyboardInterrupt(), OSError(28, "No space left")])
def test_an_error_inside_leaves_the_old_folder(tmp_path, raised):
    fill(tmp_path / "folder", b"old")

    def interrupted():
        with atomic_folder(tmp_path / "folder", overwrite=True) as scratch:
            write_bytes(scratch / "a", b"new")
            raise raised

    with pytest.raises(type(raised)):
        interrupted()
    assert (tmp_path / "folder" / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["folder"]


def test_a_process_killed_while_filling_a_folder_leaves_the_old_one(tmp_path):
    fill(tmp_path / "folder", b"old")
    code = """
        import os, signal, sys
        from policies.files import atomic_folder, write_bytes
        with atomic_folder(sys.argv[1], overwrite=True) as scratch:
            write_bytes(scratch / "a", b"new")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert python(code, tmp_path / "folder").returncode == -signal.SIGKILL
    assert names(tmp_path / "folder") == ["a", "b"]
    assert (tmp_path / "folder" / "a").read_bytes() == b"old"


def test_a_replacement_that_fails_is_undone(tmp_path):
    fill(tmp_path / "folder", b"old")
    with (
        pytest.raises(AdapError, match="cannot write"),
        atomic_folder(tmp_path / "folder", overwrite=True) as scratch,
    ):
        scratch.rmdir()  # now there is nothing to rename into place
    assert (tmp_path / "folder" / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["folder"]


def test_folders_that_cannot_be_made_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AdapError, match="cannot write"):
        fill(tmp_path / "file" / "below", b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdapError, match="cannot write"):
        fill(".", b"", overwrite=True)
    assert names(tmp_path) == ["file"]


def test_a_link_or_a_file_in_the_way_is_replaced_without_touching_what_it_names(tmp_path):
    fill(tmp_path / "precious", b"kept")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "file").write_bytes(b"old")
    for name in ("link", "file"):
        fill(tmp_path / name, b"new", overwrite=True)
        assert (tmp_path / name / "a").read_bytes() == b"new"
    assert (tmp_path / "precious" / "a").read_bytes() == b"kept"
    assert names(tmp_path) == ["file", "link", "precious"]


def test_where_names_cannot_be_exchanged_a_crash_between_the_renames_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("policies.files._exchange", lambda one, other: False)
    fill(tmp_path / "folder", b"old")
    fill(tmp_path / "folder", b"new", overwrite=True)
    assert (tmp_path / "folder" / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["folder"]
    code = """
        import os, signal, sys
        from pathlib import Path
        from policies import files
        files._exchange = lambda one, other: False
        rename = Path.rename
        def killed(self, target):
            rename(self, target)
            os.kill(os.getpid(), signal.SIGKILL)
        Path.rename = killed
        with files.atomic_folder(sys.argv[1], overwrite=True) as scratch:
            (scratch / "a").write_bytes(b"newer")
    """
    assert python(code, tmp_path / "folder").returncode == -signal.SIGKILL
    assert "folder" not in names(tmp_path)
    assert (recovered(tmp_path / "folder") / "a").read_bytes() == b"new"


# Scratch and locks


@pytest.mark.parametrize("run", [True, False])
def test_scratch_of_a_killed_process_goes_with_the_next_writer_that_of_a_living_one_stays(tmp_path, run):
    if run:
        (tmp_path / WORKPLACE).mkdir()
    code = """
        import os, signal, sys
        from policies.files import atomic_folder, write_bytes
        with atomic_folder(sys.argv[1], overwrite=True) as scratch:
            write_bytes(scratch / "a", b"new")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert python(code, tmp_path / "folder").returncode == -signal.SIGKILL
    place = tmp_path / WORKPLACE if run else tmp_path
    left = [path for path in place.iterdir() if path.name.endswith(".tmp")]
    assert len(left) == 1
    with atomic_folder(tmp_path / "folder", overwrite=True) as scratch:
        assert not left[0].exists()
        assert scratch.parent == place
        fill(tmp_path / "folder", b"other")
        assert scratch.exists()


def test_a_removed_scratch_folder_is_not_made_again(tmp_path):
    (tmp_path / "table.partial").mkdir()
    (tmp_path / "table.partial").rename(tmp_path / "table")
    with pytest.raises(AdapError, match="finished or removed by another process"):
        write_bytes(tmp_path / "table.partial" / "ledger" / "0.json", b"{}")
    assert names(tmp_path) == ["table"]


@pytest.mark.parametrize("run", [True, False])
def test_one_process_writes_at_a_time_and_a_killed_one_leaves_no_lock(tmp_path, run):
    if run:
        (tmp_path / WORKPLACE).mkdir()
    code = """
        import sys, time
        from policies.files import Lock
        with Lock(sys.argv[1]):
            print("held", flush=True)
            time.sleep(60)
    """
    words = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "table")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match=f"being written by process {other.pid} on .* since "):
            Lock(tmp_path / "table").acquire()
        with Lock(tmp_path / "another"):
            pass
        other.kill()
    with Lock(tmp_path / "table"), Lock(tmp_path / "table"):
        pass
    assert names(tmp_path / WORKPLACE if run else tmp_path) == []


# Tables


def test_a_device_or_a_pipe_is_never_replaced(tmp_path):
    pipe, scratch = tmp_path / "pipe", tmp_path / "scratch"
    os.mkfifo(pipe)
    scratch.mkdir()
    with pytest.raises(FileError, match="pipe: neither a file nor a folder"):
        write_bytes(pipe, b"content")
    with (
        pytest.raises(FileError, match="pipe: neither a file nor a folder"),
        atomic_folder(pipe, overwrite=True),
    ):
        pytest.fail("the block must not run")
    with pytest.raises(FileError, match="pipe: neither a file nor a folder"):
        install_folder(scratch, pipe)
    assert pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "scratch"]


def test_csv_keeps_texts_numbers_and_empty_fields(tmp_path):
    odd = ["NA", "null", "", 'a "quoted", one', "two\nlines", " spaces ", "001", os.fsdecode(b"caf\xe9")]
    numbers = [0.1, 1 / 3, 1e-300, 1e300, -0.0, np.nan, 2.0, 12345678.9]
    write_csv(tmp_path / "t.csv", pd.DataFrame({"sample_id": odd, "value": numbers}))
    back = read_csv(tmp_path / "t.csv", text=("sample_id",))
    assert back["sample_id"].tolist() == odd
    np.testing.assert_array_equal(back["value"].to_numpy(), numbers)


@pytest.mark.parametrize("content", [b"", b"a,b\n1\n2,3,4\n", b"\xff\xfea\x00,\x00"])
def test_what_is_no_csv_is_refused(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(FileError, match="not a usable csv"):
        read_csv(tmp_path / "t.csv")
    with pytest.raises(FileError, match="no such file"):
        read_csv(tmp_path / "absent.csv")


# Arrays


@settings(deadline=None, max_examples=50)
@given(
    st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(1, 2)), st.sampled_from(["f4", "f2", "i8"])
)
def test_rows_written_in_any_order_are_the_array(tmp_path_factory, shape, dtype):
    path = tmp_path_factory.getbasetemp() / "rows.npy"
    expected = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    array = ArrayFile.create(path, shape, dtype)
    for start in reversed(range(0, shape[0], 2)):
        array.write(start, expected[start : start + 2])
    again = ArrayFile.open(path)
    for got in (again[0 : shape[0]], again.map(), np.load(path, allow_pickle=False)):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(again[1:3], expected[1:3])


def npy(descr, shape, data=b""):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a usable .npy file"),
        (b"hello", "not a usable .npy file"),
        (npy("<f4", (4,), bytes(15)), "damaged or cut short"),
        (npy("<f4", (4,), bytes(17)), "damaged or cut short"),
        (npy("<f4", (10**12, 10**12)), "damaged or cut short"),
        (npy("<f4", (-4,), bytes(16)), "not a usable .npy file"),
        (npy("|O", (1,), b"."), "nothing was run"),
        (npy("|V0", (10**15,)), "not a usable .npy file"),
        (npy("|S0", (10**15,)), "not a usable .npy file"),
        (npy([("a", "<f4")], (1,), bytes(4)), "not a usable .npy file"),
        (npy("<f4", "__import__('os').getpid()"), "not a usable .npy file"),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_what_is_no_array_of_numbers_is_refused(tmp_path, content, reason):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(FileError, match=reason):
        ArrayFile.open(tmp_path / "a.npy")


def test_a_pickled_array_is_never_run(tmp_path):
    objects = np.array([Payload(tmp_path / "ran")], object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    with pytest.raises(FileError, match="nothing was run"):
        ArrayFile.open(tmp_path / "a.npy")
    assert not (tmp_path / "ran").exists()


def test_reading_a_block_of_rows_loads_no_more_than_the_block(tmp_path):
    array = ArrayFile.create(tmp_path / "big.npy", (50_000, 1000), "f4")  # 200 MB, sparse on disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert array[40_000:40_100].shape == (100, 1000)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 50


def test_a_file_written_piece_by_piece_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "sub" / "a.csv"
    with atomic_file(path) as file:
        file.write(b"a")
        assert not path.exists()
        file.write(b"b")
    assert path.read_bytes() == b"ab"
    with pytest.raises(RuntimeError), atomic_file(path) as file:  # noqa: PT012
        file.write(b"c")
        raise RuntimeError
    assert path.read_bytes() == b"ab"
    assert [p.name for p in path.parent.iterdir()] == ["a.csv"]
