"""A calibrated sweep: outcomes of calibrated answers, however it was interrupted."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import adapcli
from adapcli.errors import FileError, UsageError
from adapcli.evaluation.effect import Effect
from adapcli.evaluation.outcomes import outcomes
from adapcli.evaluation.passes import GridPass
from adapcli.evaluation.recalibration import Recalibrated, fit
from adapcli.sweep import recalibrating
from adapcli.sweep import sweep as sweep_module
from adapcli.sweep.estimate import estimate
from adapcli.sweep.recalibrating import affordable, plans, recalibrated
from adapcli.sweep.samples import Samples
from adapcli.sweep.sweep import Sweep
from policies.table import OutcomeTable
from policies.table.recalibration import NAME, Recalibration
from policies.table.writer import partial_folder

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def make_sweep(make_model, make_samples):
    def build(*, batch=5, sizes=(60, 23, 4, 9), **changed):
        model = make_model(**changed)
        return Sweep(model, make_samples(sizes), model.config.space, batch=batch)

    return build


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(sweep_module, "LARGEST_CHUNK", 8)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def stop(done, total):
    raise KeyboardInterrupt


def logits_of(sweep, split):
    """Every configuration of every sample of a split, (n, C, K), and the targets."""
    data = sweep.samples.splits[split]
    batch = data.batch(0, len(data))
    found = torch.empty(len(data), len(sweep.configurations), sweep.model.config.num_classes)
    for columns, logits in GridPass(sweep.model, sweep.configurations).outputs(batch.images):
        found[:, list(columns)] = logits
    return found, batch.targets


def test_everything_in_the_table_is_of_calibrated_answers(make_sweep, tmp_path):
    sweep = recalibrated(make_sweep(), tmp_path / "table")
    table = sweep.run(tmp_path / "table")
    assert table.recalibration.bias.shape == (36, 7)
    assert np.ptp(table.recalibration.temperature) > 0.01
    change = Recalibrated.of(table.recalibration, torch.device("cpu"))
    for split in ("fit", "tune", "test"):
        logits, targets = logits_of(sweep, split)
        expected = outcomes(change(logits, range(36)), targets[:, None])
        rows = table.rows(split)
        np.testing.assert_allclose(table.signals[rows], expected.signals, atol=1e-4)
        np.testing.assert_allclose(table.nll[rows], expected.nll, atol=1e-4)
        assert (table.prediction[rows] == expected.prediction.numpy()).mean() > 0.999
    full = table.prediction[:, [table.full]]
    assert np.array_equal(table.agreement, table.prediction == full)


def test_it_is_fitted_on_the_fit_split_alone(make_sweep, make_samples, tmp_path):
    sweep = make_sweep()
    logits, targets = logits_of(sweep, "fit")
    expected, _ = fit(logits, targets)
    found = recalibrated(sweep, tmp_path / "table").recalibration
    np.testing.assert_allclose(found.array(), expected.array(), atol=1e-3)
    other = recalibrated(replace(sweep, samples=make_samples((60, 11, 30, 2))), tmp_path / "table")
    assert other.recalibration.digest == found.digest


def test_the_effect_is_what_the_tables_with_and_without_say(make_sweep, tmp_path):
    plain, sweep = make_sweep().run(tmp_path / "plain"), recalibrated(make_sweep(), tmp_path / "table")
    table = sweep.run(tmp_path / "table")
    effect, rows = Effect.of_meta(table.meta, 36, "here"), table.rows("tune")
    assert (effect.split, effect.samples) == ("tune", 23)
    for when, each in (("before", plain), ("after", table)):
        np.testing.assert_allclose(effect.columns[f"accuracy_{when}"], each.score[rows].mean(0), atol=1e-6)
        np.testing.assert_allclose(effect.columns[f"nll_{when}"], each.nll[rows].mean(0), atol=1e-4)
    gained = (np.asarray(table.score[rows]) - plain.score[rows]).mean(0)
    np.testing.assert_allclose(effect.gains, gained, atol=1e-6)
    assert table.meta["recalibration"]["fit_samples"] == 60


def test_the_identity_gives_the_same_bits_as_no_recalibration(make_sweep, tmp_path):
    make_sweep().run(tmp_path / "plain")
    nothing = Recalibration.identity(36, 7)
    replace(make_sweep(), recalibration=nothing).run(tmp_path / "table")
    plain, table = contents(tmp_path / "plain"), contents(tmp_path / "table")
    assert set(table) - set(plain) == {NAME}
    assert {name for name in plain if plain[name] != table[name]} == {"meta.json", "checksums.json"}


@given(st.integers(1, 400), st.integers(1, 50_000))
def test_logits_kept_are_bounded(n_configs, n_classes):
    kept = affordable(n_configs, n_classes)
    assert kept >= 1
    assert kept == 1 or 4 * kept * n_configs * n_classes <= 1 << 30
    assert 4 * (kept + 1) * n_configs * n_classes > 1 << 30


def test_a_thousand_classes_are_fitted_pass_by_pass(make_sweep, monkeypatch):
    """Parts are as small as the bound asks, cover the grid once, and never hold more than it."""
    sweep = make_sweep(sizes=(5000, 1, 1, 1))
    assert [len(plan.columns) for plan in plans(sweep)] == [36]
    for limit in (2_000_000, 100_000, 1):
        monkeypatch.setattr(recalibrating, "LOGIT_BYTES", limit)
        parts = plans(sweep)
        assert sorted(column for plan in parts for column in plan.columns) == list(range(36))
        assert [len(plan.columns) for plan in parts] == [12, 12, 12]
        held = [4 * plan.fitted * len(plan.columns) * 7 for plan in parts]
        assert all(h <= limit or plan.fitted == 1 for h, plan in zip(held, parts, strict=True))


def test_each_part_is_fitted_on_its_own_columns(make_sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(recalibrating, "LOGIT_BYTES", 4 * 12 * 7 * 60)
    told, sweep = [], make_sweep()
    apart = recalibrated(sweep, tmp_path / "table", progress=lambda *now: told.append(now))
    assert told[-1] == (3 * 83, 3 * 83)
    logits, targets = logits_of(sweep, "fit")
    for plan, spread in zip(plans(sweep), apart.recalibration_facts["spreads"], strict=True):
        expected, expected_spread = fit(logits[:, plan.columns], targets)
        assert spread == expected_spread
        found = apart.recalibration.array()[plan.columns]
        np.testing.assert_allclose(found, expected.array(), atol=1e-3)


def test_interrupted_it_resumes_to_the_same_bits(make_sweep, tmp_path, small_chunks, monkeypatch):
    recalibrated(make_sweep(), tmp_path / "whole").run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        recalibrated(make_sweep(), tmp_path / "table", progress=stop)
    assert not partial_folder(tmp_path / "table").exists()
    with pytest.raises(KeyboardInterrupt):
        recalibrated(make_sweep(), tmp_path / "table").run(
            tmp_path / "table", progress=lambda done, total: stop(done, total) if done > 40 else None
        )
    monkeypatch.setattr(recalibrating, "fit", None)  # it is taken from what was begun
    again = recalibrated(make_sweep(), tmp_path / "table", resume=True)
    again.run(tmp_path / "table", resume=True)
    assert contents(tmp_path / "table") == contents(tmp_path / "whole")
    finished = recalibrated(make_sweep(), tmp_path / "table", resume=True)
    assert finished.run(tmp_path / "table", resume=True).recalibration.digest == again.recalibration.digest


@pytest.mark.parametrize("finished", [True, False])
def test_resume_refuses_another_recalibration(make_sweep, tmp_path, small_chunks, finished):
    def begin(sweep, name):
        if finished:
            return sweep.run(tmp_path / name)
        with pytest.raises(KeyboardInterrupt):
            sweep.run(tmp_path / name, progress=stop)

    plain, with_one = make_sweep(), replace(make_sweep(), recalibration=Recalibration.identity(36, 7))
    other = replace(plain, recalibration=Recalibration(np.full(36, 2.0), np.zeros((36, 7))))
    begin(plain, "plain")
    begin(with_one, "calibrated")
    before = {name: contents(path) for name in ("plain", "calibrated") if (path := tmp_path / name).is_dir()}
    for name, sweep, told in (
        ("plain", with_one, "none there"),
        ("calibrated", plain, "none here"),
        ("calibrated", other, other.recalibration.digest[:12] + " here"),
    ):
        with pytest.raises(FileError) as caught:
            sweep.run(tmp_path / name, resume=True)
        assert "another recalibration" in caught.value.message
        assert told in caught.value.message
    with pytest.raises(FileError, match="begun without a recalibration"):
        recalibrated(plain, tmp_path / "plain", resume=True)
    assert {name: contents(tmp_path / name) for name in before} == before


def test_a_damaged_one_is_not_resumed(make_sweep, tmp_path, small_chunks):
    with pytest.raises(KeyboardInterrupt):
        recalibrated(make_sweep(), tmp_path / "table").run(tmp_path / "table", progress=stop)
    path = partial_folder(tmp_path / "table") / NAME
    path.write_bytes(path.read_bytes()[:-4] + b"torn")
    with pytest.raises(FileError, match="SHA-256 differs"):
        recalibrated(make_sweep(), tmp_path / "table", resume=True)
    with pytest.raises(FileError, match=NAME):
        make_sweep().run(tmp_path / "table", resume=True)


def test_that_of_another_run_is_judged_but_not_fitted(make_sweep, tmp_path, monkeypatch):
    given = recalibrated(make_sweep(), tmp_path / "one").recalibration
    monkeypatch.setattr(recalibrating, "fit", None)
    sweep = recalibrated(make_sweep(sizes=(8, 23, 1, 1)), tmp_path / "two", given=given)
    assert sweep.recalibration.digest == given.digest
    assert sweep.recalibration_facts["given"]
    assert sweep.recalibration_facts["effect"]["samples"] == 23
    with pytest.raises(UsageError, match="of 3 configurations and 7 classes, the sweep has 36 and 7"):
        recalibrated(make_sweep(), tmp_path / "three", given=Recalibration.identity(3, 7))


def test_the_smallest_splits_are_enough(make_sweep, tmp_path):
    table = recalibrated(make_sweep(sizes=(1, 1, 1, 1)), tmp_path / "table").run(tmp_path / "table")
    assert np.array_equal(table.recalibration.array(), Recalibration.identity(36, 7).array())


def test_the_estimate_includes_it(make_sweep):
    sweep = make_sweep(sizes=(200, 50, 10, 10))
    assert estimate(sweep).calibrating_seconds == 0
    found = estimate(sweep, calibrate=True)
    assert 0 < found.calibrating_seconds < found.seconds


KILLED = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
import adapcli
from adapcli.sweep import sweep
from adapcli.sweep.recalibrating import recalibrated
from adapcli.sweep.samples import Samples
sweep.LARGEST_CHUNK = 16
model = adapcli.load(sys.argv[1])
samples = Samples.open("digits", model.preprocessing, limit=300)
job = sweep.Sweep(model, samples, model.config.space, batch=16)
recalibrated(job, Path(sys.argv[2])).run(Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_resumes_to_the_same_bits(make_model, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_module, "LARGEST_CHUNK", 16)
    adapcli.save(make_model(num_classes=10), tmp_path / "m.pt")
    command = [sys.executable, "-c", KILLED, tmp_path / "m.pt", tmp_path / "table"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    victim, ledger = subprocess.Popen(command, env=environment), tmp_path / "table.partial" / "ledger"
    while len(list(ledger.glob("0*.json"))) < 3:
        assert victim.poll() is None, "ended before it could be killed"
        time.sleep(0.005)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    model = adapcli.load(tmp_path / "m.pt")
    samples = Samples.open("digits", model.preprocessing, limit=300)
    for name in ("table", "whole"):
        job = Sweep(model, samples, model.config.space, batch=16)
        recalibrated(job, tmp_path / name, resume=True).run(tmp_path / name, resume=True)
    assert OutcomeTable.load(tmp_path / "table").recalibration is not None
    assert contents(tmp_path / "table") == contents(tmp_path / "whole")
