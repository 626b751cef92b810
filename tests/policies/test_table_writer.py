import itertools
import json
import os
import pickle
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from policies.errors import AdapError, FileError, UsageError
from policies.table import OutcomeTable, OutcomeTableWriter


@pytest.fixture(scope="module")
def table(make_table):
    return make_table(100, patches=np.random.default_rng(0).random((100, 4, 2)))


def begin(table, folder, **changed):
    arguments = {
        "n_samples": table.n_samples,
        "configs": table.configs,
        "increment_flops": table.increment_flops,
        "signal_names": table.signal_names,
        "feature_names": table.feature_names,
        "feature_flops": table.feature_flops,
        "meta": {"fingerprints": table.meta["fingerprints"], "seed": 0},
        "chunk": 32,
        "patches_shape": (4, 2),
    }
    return OutcomeTableWriter.create(folder, **(arguments | changed))


def piece(table, start, stop, **changed):
    rows = slice(start, stop)
    samples = table.samples[rows]
    named = {"sample_ids": samples["sample_id"], "targets": samples["target"], "splits": samples["split"]}
    return {name: array[rows] for name, array in table.arrays().items()} | named | changed


def write(writer, table, chunks=None):
    for start, stop in writer.pending() if chunks is None else chunks:
        writer.write(start, stop, **piece(table, start, stop))


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def whole(table, tmp_path):
    table.save(tmp_path / "whole")
    return contents(tmp_path / "whole")


def test_a_table_written_in_chunks_equals_one_saved_whole(table, whole, tmp_path):
    for order in (slice(None), slice(None, None, -1)):
        writer = begin(table, tmp_path / "t", overwrite=True)
        write(writer, table, writer.pending()[order])
        finished = writer.finish()
        np.testing.assert_array_equal(finished.signals, table.signals)
        assert contents(tmp_path / "t") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t", "whole"]


@pytest.mark.parametrize("chunk", [9, 100, 1000])
def test_the_chunk_size_changes_nothing(table, whole, tmp_path, chunk):
    writer = begin(table, tmp_path / "t", chunk=chunk)
    write(writer, table)
    writer.finish()
    assert contents(tmp_path / "t") == whole


def test_pending_shrinks_and_survives_reopening(table, whole, tmp_path):
    writer = begin(table, tmp_path / "t")
    assert writer.pending() == [(0, 32), (32, 64), (64, 96), (96, 100)]
    write(writer, table, [(32, 64)])
    again = OutcomeTableWriter.open(tmp_path / "t", meta={"seed": 0}, n_samples=100, configs=table.configs)
    assert again.pending() == [(0, 32), (64, 96), (96, 100)]
    assert again.repaired == []
    assert not (tmp_path / "t").exists()
    with pytest.raises(AdapError, match="3 chunks still to be written"):
        again.finish()
    write(again, table)
    again.finish()
    assert contents(tmp_path / "t") == whole


KILLED = """
import os, pickle, signal, sys
sys.path.insert(0, sys.argv[3])
from policies import files
from policies.table import OutcomeTableWriter, writer as module
folder, survive, pieces = sys.argv[1], int(sys.argv[2]), pickle.load(sys.stdin.buffer)
calls = 0
def counted(function):
    def call(*args):
        global calls
        calls += 1
        if calls > survive:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)
    return call
files.ArrayFile.write = counted(files.ArrayFile.write)
module.write_json = counted(module.write_json)
module.write_csv = counted(module.write_csv)
table = OutcomeTableWriter.open(folder)
for start, stop in table.pending():
    table.write(start, stop, **pieces[start])
"""


def test_a_table_that_another_process_writes_is_neither_resumed_nor_begun_again(
    table, tmp_path, pytestconfig
):
    writer = begin(table, tmp_path / "t")
    command = [sys.executable, "-c", KILLED, tmp_path / "t", "0", pytestconfig.rootpath]
    done = subprocess.run(command, input=pickle.dumps({}), capture_output=True, check=False)
    assert f"BusyError: {tmp_path / 't'}: being written by process {os.getpid()}" in done.stderr.decode()
    write(writer, table)
    writer.finish()
    assert OutcomeTable.load(tmp_path / "t").n_samples == table.n_samples


@pytest.mark.parametrize("survive", [3, 8, 13])
def test_a_killed_writer_loses_at_most_one_chunk(table, whole, tmp_path, survive, pytestconfig):
    steps_per_chunk = len(table.arrays()) + 2
    writer = begin(table, tmp_path / "t")
    pieces = {start: piece(table, start, stop) for start, stop in writer.pending()}
    writer.close()
    command = [sys.executable, "-c", KILLED, tmp_path / "t", str(survive), pytestconfig.rootpath]
    done = subprocess.run(command, input=pickle.dumps(pieces), capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    again = OutcomeTableWriter.open(tmp_path / "t")
    assert len(again.pending()) == 4 - survive // steps_per_chunk
    write(again, table)
    again.finish()
    assert contents(tmp_path / "t") == whole


def test_a_torn_last_chunk_is_redone_and_told(table, whole, tmp_path):
    writer = begin(table, tmp_path / "t")
    write(writer, table, writer.pending()[:3])
    path = writer.partial / "signals.npy"
    path.write_bytes(path.read_bytes()[: 128 + 90 * 18 * 2 * 4])  # ends within the third chunk
    again = OutcomeTableWriter.open(tmp_path / "t")
    assert again.pending() == [(64, 96), (96, 100)]
    assert len(again.repaired) == 1
    assert "rows 64..96" in again.repaired[0]
    write(again, table)
    again.finish()
    assert contents(tmp_path / "t") == whole


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_torn_piece_of_the_ledger_is_redone(table, tmp_path, suffix):
    writer = begin(table, tmp_path / "t")
    write(writer, table, writer.pending()[:2])
    path = writer.partial / "ledger" / f"000000032.{suffix}"
    path.write_bytes(path.read_bytes()[:-9])
    assert OutcomeTableWriter.open(tmp_path / "t").pending()[0] == (32, 64)


def test_garbage_in_the_middle_is_refused_with_its_place(table, tmp_path):
    writer = begin(table, tmp_path / "t")
    write(writer, table, writer.pending()[:3])
    with (writer.partial / "prediction.npy").open("r+b") as file:
        file.seek(128 + 40 * 18 * 2)
        file.write(b"garbage")
    with pytest.raises(FileError, match=r"rows 32\.\.64: prediction is damaged"):
        OutcomeTableWriter.open(tmp_path / "t")


def test_another_checkpoint_grid_or_size_is_not_resumed(table, tmp_path):
    begin(table, tmp_path / "t")
    other = {"fingerprints": {"checkpoint": "xyz", "data": "def"}, "seed": 1, "new": (1, 2)}
    with pytest.raises(FileError) as caught:
        OutcomeTableWriter.open(tmp_path / "t", meta=other, n_samples=50)
    for field in ("fingerprints.checkpoint: abc there, xyz here", "seed", "new", "n_samples"):
        assert field in caught.value.message
    assert "data" not in caught.value.message
    with pytest.raises(FileError, match="configs"):
        OutcomeTableWriter.open(tmp_path / "t", configs=table.configs.iloc[:3])
    with pytest.raises(FileError, match="no unfinished outcome table"):
        OutcomeTableWriter.open(tmp_path / "nothing")


def test_existing_tables_are_kept_until_the_new_one_is_whole(table, make_table, tmp_path):
    make_table(8, seed=5).save(tmp_path / "t")
    with pytest.raises(UsageError, match="exists already") as caught:
        begin(table, tmp_path / "t")
    assert "--overwrite" in caught.value.hint
    writer = begin(table, tmp_path / "t", overwrite=True)
    with pytest.raises(UsageError) as caught:
        begin(table, tmp_path / "t")
    write(writer, table)
    assert OutcomeTable.load(tmp_path / "t").n_samples == 8
    writer.finish()
    assert OutcomeTable.load(tmp_path / "t").n_samples == 100
    begin(table, tmp_path / "u")
    with pytest.raises(UsageError) as caught:
        begin(table, tmp_path / "u")
    assert "--resume" in caught.value.hint


def nan_at(array, *place):
    array = np.array(array)
    array[place] = np.nan
    return array


WRONG = {
    "nan": (lambda p: {"score": nan_at(p["score"], 1, 2)}, "score, row 33, column 2: nan"),
    "shape": (lambda p: {"nll": p["nll"][1:]}, "nll has shape (31, 18), expected (32, 18)"),
    "missing": (lambda p: {"nll": None}, "nll is missing"),
    "classes that do not fit": (lambda p: {"prediction": p["prediction"] + 70_000}, "does not fit in int16"),
    "split": (lambda p: {"splits": "train"}, "unknown split 'train'"),
    "sample twice": (lambda p: {"sample_ids": ["a"] * 32}, "duplicate sample_id"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_bad_chunk_is_refused_and_stays_pending(name, table, tmp_path):
    change, message = WRONG[name]
    writer = begin(table, tmp_path / "t")
    good = piece(table, 32, 64, prediction=table.prediction[32:64].astype(np.int64))
    with pytest.raises(FileError) as caught:
        writer.write(32, 64, **(good | change(good)))
    assert message in caught.value.message
    assert (32, 64) in writer.pending()


def test_rows_that_are_no_chunk_are_refused(table, tmp_path):
    writer = begin(table, tmp_path / "t")
    with pytest.raises(UsageError, match=r"rows 0\.\.16 are not a chunk"):
        writer.write(0, 16, **piece(table, 0, 16))
    for changed in ({"chunk": 0}, {"n_samples": 0}):
        with pytest.raises(UsageError, match="1 or more samples"):
            begin(table, tmp_path / "u", **changed)


def test_a_sample_in_two_chunks_is_refused_at_the_end(table, tmp_path):
    writer = begin(table, tmp_path / "t")
    for start, stop in writer.pending():
        writer.write(
            start, stop, **piece(table, start, stop, sample_ids=[f"s{i}" for i in range(stop - start)])
        )
    with pytest.raises(FileError, match="row 32: duplicate sample_id"):
        writer.finish()
    assert not (tmp_path / "t").exists()


def test_dense_tables_have_no_classes(table, tmp_path):
    writer = begin(table, tmp_path / "t", classes=False, patches_shape=None)
    for start, stop in writer.pending():
        given = piece(table, start, stop)
        for name in ("prediction", "nll", "patches"):
            del given[name]
        writer.write(start, stop, **given)
    finished = writer.finish()
    assert finished.prediction is None
    assert finished.nll is None


def test_a_full_disk_leaves_a_table_that_resumes(table, whole, tmp_path):
    writer = begin(table, tmp_path / "t")
    write(writer, table, writer.pending()[:1])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
        with pytest.raises(AdapError, match="cannot write"):
            write(writer, table)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    again = OutcomeTableWriter.open(tmp_path / "t")
    assert len(again.pending()) == 3
    write(again, table)
    again.finish()
    assert contents(tmp_path / "t") == whole


PEAK = """
import resource, sys
import numpy as np, pandas as pd
sys.path.insert(0, sys.argv[3])
from policies.table import OutcomeTableWriter
folder, n, c = sys.argv[1], int(sys.argv[2]), 50
costs = {"cost_flops": range(1, c + 1), "readout_flops": 1, "memory_bytes": 1}
configs = pd.DataFrame({"depth": range(c), **costs})
writer = OutcomeTableWriter.create(folder, n_samples=n, configs=configs, increment_flops=np.zeros((c, c)),
    signal_names=list("abcdefgh"), feature_names=["f"], feature_flops=0, meta={}, chunk=500)
for start, stop in writer.pending():
    r = stop - start
    grid = np.ones((r, c), np.float32)
    writer.write(start, stop, score=grid, agreement=grid, prediction=grid.astype(np.int16), nll=grid,
        signals=np.ones((r, c, 8), np.float32), features=np.ones((r, 1), np.float32),
        sample_ids=range(start, stop), targets=0, splits="test")
writer.finish()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path, pytestconfig):
    peaks = []
    for n in (4_000, 16_000):
        command = [sys.executable, "-c", PEAK, tmp_path / str(n), str(n), pytestconfig.rootpath]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    grown = (tmp_path / "16000" / "signals.npy").stat().st_size * 3 // 4 // 1024
    assert peaks[1] - peaks[0] < 0.15 * grown


def test_every_field_of_the_plan_is_readable_json(table, tmp_path):
    writer = begin(table, tmp_path / "t")
    plan = json.loads((writer.partial / "ledger" / "plan.json").read_text())
    assert plan["n_samples"] == 100
    assert list(itertools.chain(plan["meta"]["arrays"])) == list(table.arrays())


def test_a_table_without_labels_needs_no_score(make_table, without_labels, tmp_path):
    table = without_labels(make_table(100))
    writer = begin(table, tmp_path / "t", meta=table.meta, patches_shape=None)
    for start, stop in writer.pending():
        given = piece(table, start, stop)
        del given["score"]
        with pytest.raises(FileError, match=f"row {start}: target 3"):
            writer.write(start, stop, **(given | {"targets": [3] * (stop - start)}))
        writer.write(start, stop, **given)
    found = writer.finish()
    assert (found.labelled, found.nll) == (False, None)
    assert np.array_equal(found.score, table.agreement)
