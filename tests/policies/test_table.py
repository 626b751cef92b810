import json
import pickle
import resource
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from policies.errors import AdapError, FileError, UsageError
from policies.table import OutcomeTable


@pytest.fixture
def table(make_table):
    return make_table()


@pytest.fixture
def saved(table, tmp_path):
    table.save(tmp_path / "table")
    return tmp_path / "table"


def assert_same(a, b):
    assert a.arrays().keys() == b.arrays().keys()
    for name, array in a.arrays().items():
        other = b.arrays()[name]
        assert array.dtype == other.dtype, name
        np.testing.assert_array_equal(array, other, err_msg=name)
    np.testing.assert_array_equal(a.increment_flops, b.increment_flops)
    pd.testing.assert_frame_equal(a.configs, b.configs)
    pd.testing.assert_frame_equal(a.samples, b.samples)
    assert (a.meta, a.signal_names, a.feature_names, a.feature_flops) == (
        b.meta,
        b.signal_names,
        b.feature_names,
        b.feature_flops,
    )


def test_what_is_saved_is_what_is_loaded(make_table, tmp_path):
    rng = np.random.default_rng(0)
    latency = pd.DataFrame({"configuration": [0], "device": ["cpu"], "median_ms": [0.1 + 0.2]})
    for name, changed in {
        "plain": {},
        "patches": {"patches": rng.random((200, 4, 3)), "latency": latency},
        "bare": {"signals": None, "signal_names": None, "features": None, "feature_names": None},
        "dense": {"prediction": None, "nll": None},
    }.items():
        table = make_table(**changed)
        table.save(tmp_path / name)
        loaded = OutcomeTable.load(tmp_path / name)
        assert_same(table, loaded)
        if table.latency is not None:
            pd.testing.assert_frame_equal(table.latency, loaded.latency)


def test_loaded_arrays_are_maps_that_cannot_be_written(saved):
    loaded = OutcomeTable.load(saved)
    assert isinstance(loaded.score, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        loaded.score[0, 0] = 1


def test_sample_ids_stay_text(make_table, tmp_path):
    samples = make_table(4).samples.assign(sample_id=["007", "NA", "1e3", 'ä,"b"\nc'])
    table = make_table(4, samples=samples)
    table.save(tmp_path / "t")
    assert list(OutcomeTable.load(tmp_path / "t").samples["sample_id"]) == ["007", "NA", "1e3", 'ä,"b"\nc']


def test_an_existing_table_is_not_overwritten_unasked(make_table, saved):
    with pytest.raises(FileError, match="exists already"):
        make_table(seed=1).save(saved)
    make_table(seed=1).save(saved, overwrite=True)
    assert OutcomeTable.load(saved).meta["seed"] == 1
    assert [path.name for path in saved.parent.iterdir()] == ["table"]


def test_rows_full_and_signal(table):
    rows = [table.rows(split) for split in ("fit", "tune", "calibration", "test")]
    assert sorted(np.concatenate(rows)) == list(range(table.n_samples))
    assert list(table.configs.loc[table.full, ["tokens", "width", "depth"]]) == [4, 16, 3]
    np.testing.assert_array_equal(table.signal("margin"), table.signals[:, :, 1])
    with pytest.raises(UsageError, match="split train"):
        table.rows("train")
    with pytest.raises(UsageError, match="confidense"):
        table.signal("confidense")


def test_full_among_equally_dear_configurations_is_the_largest(make_table):
    configs = make_table(4).configs
    configs["cost_flops"] = 5
    shuffled = configs.sample(frac=1, random_state=0).reset_index(drop=True)
    table = make_table(4, configs=shuffled)
    assert list(table.configs.loc[table.full, ["tokens", "width", "depth"]]) == [4, 16, 3]


def test_take_equals_indexing(table):
    rows = table.rows("test")
    part = table.take(rows)
    mask = table.take(table.samples["split"].to_numpy() == "test")
    assert_same(part, mask)
    part.validate()
    np.testing.assert_array_equal(part.signals, table.signals[rows])
    assert list(part.samples["sample_id"]) == list(table.samples["sample_id"].iloc[rows])
    assert part.meta["arrays"]["score"]["shape"] == [len(rows), table.n_configs]


def test_agreement_defaults_to_the_full_configurations_answer(table, make_table):
    expected = table.prediction == table.prediction[:, [table.full]]
    np.testing.assert_array_equal(table.agreement, expected)
    assert make_table(prediction=None).agreement[:, table.full].all()


def test_increments_default_to_no_way_from_one_to_another(make_table):
    increments = make_table(increment_flops=None).increment_flops
    assert (np.diag(increments) == 0).all()
    assert np.isinf(increments[~np.eye(len(increments), dtype=bool)]).all()


def changed_configs(make, **columns):
    return {"configs": make(4).configs.assign(**columns)}


BAD = {
    "nan score": (
        lambda m: {"score": np.where(np.arange(72).reshape(4, 18) == 21, np.nan, 1)},
        "score, row 1, column 3",
    ),
    "score above one": (lambda m: {"score": np.full((4, 18), 1.5)}, "score, row 0, column 0: 1.5"),
    "negative score": (lambda m: {"score": np.full((4, 18), -0.1)}, "score, row 0"),
    "infinite nll": (lambda m: {"nll": np.full((4, 18), np.inf)}, "nll, row 0, column 0"),
    "nan signal": (lambda m: {"signals": np.full((4, 18, 2), np.nan)}, "signals, row 0, column 0, 0"),
    "nan feature": (lambda m: {"features": np.full((4, 3), np.nan)}, "features, row 0"),
    "wrong features": (lambda m: {"features": np.zeros((5, 3))}, "features has shape"),
    "narrow score": (lambda m: {"score": np.ones((4, 17)), "prediction": None}, "17"),
    "flat score": (lambda m: {"score": np.ones(4)}, "score is 1-D"),
    "text score": (lambda m: {"score": np.full((4, 18), "x")}, "score is 2-D of"),
    "fractional classes": (lambda m: {"prediction": np.full((4, 18), 0.5)}, "prediction is float64"),
    "too few names": (lambda m: {"signal_names": ["confidence"]}, "signals has shape"),
    "equal names": (lambda m: {"signal_names": ["a", "a"]}, "two signals have the same name"),
    "no configurations": (lambda m: {"configs": m(4).configs.iloc[:0]}, "configs has 0 rows"),
    "twice a configuration": (lambda m: changed_configs(m, depth=1), "duplicate configuration"),
    "negative cost": (lambda m: changed_configs(m, cost_flops=range(-1, 17)), "column cost_flops, row 0: -1"),
    "text cost": (
        lambda m: changed_configs(m, cost_flops="much"),
        "column cost_flops: not a column of numbers",
    ),
    "nan cost": (lambda m: changed_configs(m, memory_bytes=np.nan), "column memory_bytes, row 0: nan"),
    "missing cost": (
        lambda m: {"configs": m(4).configs.drop(columns="readout_flops")},
        "column readout_flops is missing",
    ),
    "free configurations": (lambda m: changed_configs(m, cost_flops=0), "every configuration costs nothing"),
    "missing split": (lambda m: {"samples": m(4).samples.drop(columns="split")}, "column split is missing"),
    "unknown split": (
        lambda m: {"samples": m(4).samples.assign(split="train")},
        "row 0: unknown split 'train'",
    ),
    "twice a sample": (
        lambda m: {"samples": m(4).samples.assign(sample_id="a")},
        "row 1: duplicate sample_id",
    ),
    "too many samples": (lambda m: {"samples": m(5).samples}, "samples has 5 rows, score has 4"),
    "small increments": (lambda m: {"increment_flops": np.zeros((2, 2))}, "increment_flops has shape"),
    "nan increments": (
        lambda m: {"increment_flops": np.full((18, 18), np.nan)},
        "increment_flops, row 0, column 0",
    ),
    "negative increments": (
        lambda m: {"increment_flops": np.full((18, 18), -1)},
        "increment_flops, row 0, column 0",
    ),
    "negative feature cost": (lambda m: {"feature_flops": -1}, "feature_flops: -1"),
    "meta that is no json": (lambda m: {"meta": {"x": float("nan")}}, "meta is not JSON"),
    "no samples": (
        lambda m: {"score": np.ones((0, 18)), "samples": m(4).samples.iloc[:0], "prediction": None},
        "samples has 0 rows",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_are_refused(name, make_table):
    change, message = BAD[name]
    with pytest.raises(FileError) as caught:
        make_table(4, **change(make_table))
    assert message in caught.value.message


def break_array(folder, name, change):
    array = np.load(folder / f"{name}.npy")
    np.save(folder / f"{name}.npy", change(array))


def break_csv(folder, name, change):
    frame = pd.read_csv(folder / name)
    change(frame).to_csv(folder / name, index=False)


def with_nan(array):
    array[3, 2] = np.nan
    return array


def set_meta(folder, **fields):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | fields))


DAMAGE = {
    "no folder": (lambda f: f.rename(f.with_name("other")), "no such outcome table"),
    "nan": (lambda f: break_array(f, "score", with_nan), "score, row 3, column 2: nan"),
    "float64": (lambda f: break_array(f, "nll", lambda a: a.astype(np.float64)), "nll is float64"),
    "column order": (lambda f: break_array(f, "score", np.asfortranarray), "stored column by column"),
    "one row less": (lambda f: break_array(f, "signals", lambda a: a[1:]), "signals has shape"),
    "missing array": (lambda f: (f / "agreement.npy").unlink(), "agreement.npy: no such file"),
    "cut short": (
        lambda f: (f / "nll.npy").write_bytes((f / "nll.npy").read_bytes()[:-5]),
        "damaged or cut short",
    ),
    "no npy": (lambda f: (f / "nll.npy").write_text("hello"), "not a usable .npy file"),
    "empty npy": (lambda f: (f / "nll.npy").write_bytes(b""), "not a usable .npy file"),
    "twice a configuration": (
        lambda f: break_csv(f, "configs.csv", lambda c: c.assign(width=8)),
        "duplicate configuration",
    ),
    "missing axis": (
        lambda f: break_csv(f, "configs.csv", lambda c: c.drop(columns="depth")),
        "column depth is missing",
    ),
    "missing cost": (
        lambda f: break_csv(f, "configs.csv", lambda c: c.drop(columns="cost_flops")),
        "column cost_flops is missing",
    ),
    "no configurations": (lambda f: break_csv(f, "configs.csv", lambda c: c.iloc[:0]), "configs has 0 rows"),
    "no samples": (lambda f: break_csv(f, "samples.csv", lambda c: c.iloc[:0]), "samples has 0 rows"),
    "one sample less": (lambda f: break_csv(f, "samples.csv", lambda c: c.iloc[1:]), "samples has 199 rows"),
    "empty csv": (lambda f: (f / "samples.csv").write_text(""), "not a usable csv"),
    "no csv": (lambda f: (f / "samples.csv").unlink(), "samples.csv: no such file"),
    "binary csv": (lambda f: (f / "samples.csv").write_bytes(b"\xff\xfe\x00a"), "not a usable csv"),
    "no meta": (lambda f: (f / "meta.json").unlink(), "meta.json: no such file"),
    "meta list": (lambda f: (f / "meta.json").write_text("[]"), "expected an object"),
    "newer": (lambda f: set_meta(f, schema_version=99), "schema_version 99"),
    "names no list": (
        lambda f: set_meta(f, signal_names="confidence"),
        "signal_names: expected a list of names",
    ),
    "cost of features no number": (
        lambda f: set_meta(f, feature_flops="7"),
        "feature_flops: expected a whole number",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_tables_are_refused(name, saved):
    damage, message = DAMAGE[name]
    damage(saved)
    with pytest.raises(FileError) as caught:
        OutcomeTable.load(saved)
    assert message in caught.value.message


def test_a_pickle_inside_an_array_is_not_run(saved, tmp_path):
    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    np.save(saved / "score.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    with pytest.raises(FileError, match=r"Python objects; nothing was run"):
        OutcomeTable.load(saved)
    (saved / "score.npy").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(FileError, match=r"not a usable \.npy"):
        OutcomeTable.load(saved)
    assert not (tmp_path / "ran").exists()


def test_a_header_that_promises_too_much_is_refused(saved):
    with (saved / "score.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 18)}
        )
    with pytest.raises(FileError, match="damaged or cut short"):
        OutcomeTable.load(saved)


PEAK = """
import resource, sys
from policies.table import OutcomeTable
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
OutcomeTable.load(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_checking_a_table_does_not_load_it(make_table, tmp_path):
    n = 40_000
    signals = np.random.default_rng(0).random((n, 18, 40), np.float32)
    make_table(n, signals=signals, signal_names=[f"s{i}" for i in range(40)]).save(tmp_path / "t")
    size_kb = (tmp_path / "t" / "signals.npy").stat().st_size // 1024
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path / "t"], capture_output=True, text=True, check=True
    )
    assert size_kb > 110_000
    assert int(done.stdout) < size_kb * 0.6


def test_a_full_disk_leaves_no_half_table(table, saved):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
        for folder in (saved, saved.with_name("new")):
            with pytest.raises(AdapError, match="cannot write"):
                table.save(folder, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert [path.name for path in saved.parent.iterdir()] == ["table"]
    assert_same(OutcomeTable.load(saved), table)


def test_without_labels_the_score_is_the_agreement(make_table, without_labels, tmp_path):
    table = without_labels(make_table(40))
    assert table.meta["labels"] is False
    assert np.array_equal(table.score, table.agreement)
    table.save(tmp_path / "t")
    found = OutcomeTable.load(tmp_path / "t")
    assert (found.labelled, found.nll) == (False, None)
    assert found.take(np.arange(4)).labelled is False
    assert make_table(8).labelled


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("samples", "row 0: target"),
        ("score", "score, row"),
        ("nll", "nll needs labels"),
        ("meta", "got 'no'"),
    ],
)
def test_a_table_without_labels_that_knows_some_is_refused(make_table, without_labels, name, told):
    table = make_table(40)
    wrong = replace(table, meta={"labels": "no"})
    with pytest.raises(FileError, match=told):
        replace(without_labels(table), **{name: getattr(wrong, name)}).validate()


def test_a_table_without_any_answer_is_refused(make_table):
    table = make_table(8)
    with pytest.raises(FileError, match="neither score nor prediction nor agreement"):
        OutcomeTable.from_arrays(configs=table.configs, samples=table.samples)
