"""A recalibration kept with a table and with a policy: the same back, nothing else accepted."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from policies import base, registry
from policies.baselines import Static
from policies.errors import FileError
from policies.grid import Grid
from policies.table import OutcomeTable, OutcomeTableWriter
from policies.table.recalibration import NAME, Recalibration, begun
from policies.table.writer import partial_folder
from policies.threshold import Threshold


def some(n_configs=18, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    return Recalibration(rng.uniform(0.5, 2, n_configs), rng.normal(0, 0.3, (n_configs, classes)))


@pytest.fixture(scope="module")
def table(make_table):
    return make_table(recalibration=some())


def test_a_table_keeps_it(table, tmp_path):
    table.save(tmp_path / "table")
    again = OutcomeTable.load(tmp_path / "table")
    assert np.array_equal(again.recalibration.array(), table.recalibration.array())
    assert again.meta["fingerprints"]["recalibration"] == again.recalibration.digest
    assert again.take(np.arange(5)).recalibration.digest == again.recalibration.digest


def test_a_table_without_is_as_it_was(make_table, tmp_path):
    make_table().save(tmp_path / "table")
    assert not (tmp_path / "table" / NAME).exists()
    assert "recalibration" not in (tmp_path / "table" / "meta.json").read_text()
    assert OutcomeTable.load(tmp_path / "table").recalibration is None


def test_the_digest_tells_values_and_shapes_apart():
    one = some()
    bias = one.bias.copy()
    bias[3, 1] = np.nextafter(bias[3, 1], np.float32(9))
    assert len({one.digest, replace(one, bias=bias).digest, some(9, 11).digest, some(11, 9).digest}) == 4
    assert Recalibration.from_array(one.array()).digest == one.digest


@pytest.mark.parametrize(
    ("temperature", "bias"),
    [
        (np.ones(3), np.zeros((2, 4))),
        (np.ones(3), np.zeros(3)),
        (np.ones(0), np.zeros((0, 4))),
        (np.ones(2), np.zeros((2, 0))),
        (np.array([1, 0.0]), np.zeros((2, 4))),
        (np.array([1, -1.0]), np.zeros((2, 4))),
        (np.array([1, np.nan]), np.zeros((2, 4))),
        (np.ones(2), np.full((2, 4), np.inf)),
    ],
)
def test_what_is_no_recalibration(temperature, bias):
    with pytest.raises(FileError, match="recalibration"):
        Recalibration(temperature, bias)


@pytest.mark.parametrize("shape", [(17, 5), (18, 4)])
def test_a_table_refuses_one_of_another_shape(make_table, shape):
    classes = {"class_names": list("abcde"), "fingerprints": {}}
    with pytest.raises(FileError, match="recalibration of"):
        make_table(recalibration=some(*shape), meta=classes)


def npy(array, **how):
    file = io.BytesIO()
    np.save(file, array, **how)
    return file.getvalue()


DAMAGES = {
    "gone": None,
    "empty": b"",
    "text": b"not an array",
    "of other values": npy(some(seed=1).array()),
    "of another shape": npy(some(4).array()),
    "of doubles": npy(some().array().astype(np.float64)),
    "flat": npy(some().array().ravel()),
    "with Python objects": npy(np.array([[print]] * 18, dtype=object), allow_pickle=True),
}


def damage(path, content):
    path.unlink() if content is None else path.write_bytes(content)


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_one_is_refused_in_one_line(table, tmp_path, what):
    table.save(tmp_path / "table")
    policy = Static(Grid.of(table), 3)
    base.save(policy, tmp_path / "policy")
    for place, load in (("table", OutcomeTable.load), ("policy", registry.load)):
        damage(tmp_path / place / NAME, DAMAGES[what])
        with pytest.raises(FileError) as caught:
            load(tmp_path / place)
        assert NAME in caught.value.message
        assert "\n" not in caught.value.message


def test_one_that_nothing_tells_of_is_refused(make_table, tmp_path):
    make_table().save(tmp_path / "table")
    some().save(tmp_path / "table")
    with pytest.raises(FileError, match="does not belong here"):
        OutcomeTable.load(tmp_path / "table")


@pytest.mark.parametrize("kind", ["static", "threshold"])
def test_a_policy_takes_it_along(table, tmp_path, kind):
    grid = Grid.of(table)
    policy = Static(grid, 3) if kind == "static" else Threshold(grid, (0, 4), 0.5)
    base.save(policy, tmp_path / "policy")
    again = registry.load(tmp_path / "policy", table)
    assert again.grid.recalibration.digest == table.recalibration.digest
    told = json.loads((tmp_path / "policy" / "policy.json").read_text())["grid"]["fingerprints"]
    assert told["recalibration"] == table.recalibration.digest
    rows = table.rows("test")
    assert np.array_equal(again.select(table, rows).configuration, policy.select(table, rows).configuration)


def test_a_policy_refuses_a_table_with_another_or_none_by_name(make_table, table, tmp_path):
    base.save(Static(Grid.of(table), 3), tmp_path / "policy")
    for other, told in ((make_table(recalibration=some(seed=1)), ""), (make_table(), "/ none")):
        with pytest.raises(
            FileError, match=f"recalibration {table.recalibration.digest[:12]} {told}"
        ) as caught:
            registry.load(tmp_path / "policy", other)
        assert "adap sweep --calibration" in caught.value.hint
    base.save(Static(Grid.of(make_table()), 3), tmp_path / "plain")
    with pytest.raises(FileError, match="recalibration none / "):
        registry.load(tmp_path / "plain", table)
    assert registry.load(tmp_path / "plain", make_table()).grid.recalibration is None


def test_a_writer_keeps_it_from_the_beginning(table, tmp_path):
    folder = tmp_path / "table"

    def begin(recalibration):
        return OutcomeTableWriter.create(
            folder,
            n_samples=table.n_samples,
            configs=table.configs,
            increment_flops=table.increment_flops,
            signal_names=table.signal_names,
            feature_names=table.feature_names,
            feature_flops=7,
            meta={"fingerprints": {"checkpoint": "abc"}},
            recalibration=recalibration,
            overwrite=True,
        )

    assert begun(folder, partial_folder(folder)) == (False, None)
    begin(None)
    assert begun(folder, partial_folder(folder)) == (True, None)
    begin(table.recalibration)
    assert begun(folder, partial_folder(folder))[1].digest == table.recalibration.digest
    with pytest.raises(FileError, match="recalibration of 4 configurations"):
        begin(some(4))
    damage(partial_folder(folder) / NAME, DAMAGES["of other values"])
    with pytest.raises(FileError, match=NAME):
        OutcomeTableWriter.open(folder)
    shutil.rmtree(partial_folder(folder))
    table.save(folder)
    assert begun(folder, partial_folder(folder))[1].digest == table.recalibration.digest


@pytest.mark.parametrize(
    "content", ["3", "[]", "{}", '{"arrays": 3}', '{"arrays": {"score": {"shape": []}}}']
)
def test_a_begun_table_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "meta.json").write_text(content)
    with pytest.raises(FileError, match="not an outcome table"):
        begun(tmp_path / "table", tmp_path / "table.partial")
