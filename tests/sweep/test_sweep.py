"""A table says what every configuration answers when it runs alone; however it was interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

import adapcli
from adapcli.data.features import image_features
from adapcli.errors import FileError, UsageError
from adapcli.evaluation.outcomes import SIGNAL_NAMES
from adapcli.model.flops import flops, increments
from adapcli.sweep import sweep as sweep_module
from adapcli.sweep.estimate import estimate
from adapcli.sweep.samples import Samples
from adapcli.sweep.sweep import Sweep
from policies.table import SPLITS, OutcomeTable
from policies.table.writer import partial_folder

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def make_sweep(make_model, make_samples):
    def build(*, batch=5, sizes=(13, 4, 9, 17), seed=0, axes=None, **changed):
        model = make_model(**changed)
        return Sweep(
            model, make_samples(sizes, seed), model.config.space.restrict(**(axes or {})), batch=batch
        )

    return build


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(sweep_module, "LARGEST_CHUNK", 8)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def all_images(samples):
    return [batch for _, batch in samples.batches(0, len(samples), 1000)]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mask=st.sampled_from(["block", "causal", "none"]),
    ffn=st.sampled_from(["mlp", "swiglu"]),
    batch=st.integers(1, 20),
    seed=st.integers(0, 50),
)
def test_equals_running_each_configuration_alone(make_sweep, tmp_path_factory, mask, ffn, batch, seed):
    sweep = make_sweep(batch=batch, mask=mask, ffn=ffn, seed=seed)
    table = sweep.run(tmp_path_factory.mktemp("sweep") / "table")
    ties = 0
    for part in all_images(sweep.samples):
        rows = table.samples.index[table.samples["sample_id"].isin(part.sample_ids)]
        for column, configuration in enumerate(sweep.configurations):
            with torch.inference_mode():
                logits = sweep.model(part.images, configuration).logits.double()
            confidence = table.signal("confidence")[rows, column]
            np.testing.assert_allclose(confidence, logits.softmax(-1).amax(-1), atol=1e-4)
            nll = cross_entropy(logits, part.targets, reduction="none")
            np.testing.assert_allclose(table.nll[rows, column], nll, atol=1e-3)
            same = table.prediction[rows, column] == logits.argmax(-1).numpy()
            first, second = logits.topk(2).values.unbind(-1)
            assert ((first - second).numpy()[~same] < 1e-4).all(), "other answers only where two classes tie"
            ties += int((~same).sum())
            hit = table.prediction[rows, column] == part.targets.numpy()
            assert np.array_equal(table.score[rows, column], hit)
    assert ties <= 2


def test_agreement_is_with_the_full_configuration(make_sweep, tmp_path):
    sweep = make_sweep()
    table = sweep.run(tmp_path / "table")
    full = table.prediction[:, [sweep.configurations.index(sweep.model.full_configuration)]]
    assert np.array_equal(table.agreement, table.prediction == full)
    assert 0 < table.agreement.mean() < 1
    assert sweep.configurations[table.full] == sweep.model.full_configuration


def test_a_restricted_grid_keeps_the_full_configuration(make_sweep, tmp_path):
    whole = make_sweep().run(tmp_path / "whole")
    sweep = make_sweep(axes={"tokens": [1, 5], "widths": [13], "depths": [2]})
    table = sweep.run(tmp_path / "part")
    assert [str(c) for c in sweep.configurations] == ["t1 w13 l2", "t5 w13 l2", "t8 w24 l3"]
    keys = whole.configs[["tokens", "width", "depth"]].apply(tuple, axis=1).tolist()
    columns = [keys.index((c.tokens, c.width, c.depth)) for c in sweep.configurations]
    np.testing.assert_allclose(table.signals, whole.signals[:, columns], atol=1e-5)
    assert np.array_equal(table.agreement, whole.agreement[:, columns])


def test_costs_are_those_of_the_model(make_sweep, tmp_path):
    sweep = make_sweep()
    table = sweep.run(tmp_path / "table")
    config = sweep.model.config
    executed = [flops(config, c, readout="folded", attention="block") for c in sweep.configurations]
    assert table.configs["cost_flops"].tolist() == executed
    assert np.array_equal(table.increment_flops, increments(config, sweep.configurations))
    full = table.meta["full_configuration"]
    assert full["published_flops"] == flops(config, config.full_configuration)
    assert full["executed_flops"] == max(executed)
    assert table.meta["conventions"]["readout"] == "folded"


def test_features_and_samples_are_those_of_the_data(make_sweep, tmp_path):
    sweep = make_sweep()
    table = sweep.run(tmp_path / "table")
    parts = all_images(sweep.samples)
    features = torch.cat([image_features(part.images) for part in parts])
    np.testing.assert_allclose(table.features, features, rtol=1e-6)
    assert table.samples["sample_id"].tolist() == [name for part in parts for name in part.sample_ids]
    assert table.samples["target"].tolist() == torch.cat([part.targets for part in parts]).tolist()
    assert {split: len(table.rows(split)) for split in SPLITS} == sweep.samples.sizes
    assert table.signal_names == SIGNAL_NAMES


def test_batch_and_chunk_change_only_rounding(make_sweep, tmp_path, monkeypatch):
    tables = []
    for batch, chunk in ((1, 1), (7, 4), (100, 512)):
        monkeypatch.setattr(sweep_module, "LARGEST_CHUNK", chunk)
        tables.append(make_sweep(batch=batch).run(tmp_path / f"{batch}"))
    for a, b in pairwise(tables):
        np.testing.assert_allclose(a.signals, b.signals, atol=1e-4)
        np.testing.assert_allclose(a.nll, b.nll, atol=1e-4)
        assert np.array_equal(a.features, b.features)


def test_the_same_sweep_twice_gives_the_same_bits(make_sweep, tmp_path, small_chunks):
    for name in ("one", "two"):
        make_sweep().run(tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_an_interrupted_sweep_goes_on_to_the_same_bits(make_sweep, tmp_path, small_chunks, chunks):
    class StopError(Exception):
        pass

    def stop(done, total):
        if done > 8 * chunks:
            raise StopError

    make_sweep().run(tmp_path / "whole")
    with pytest.raises(StopError):
        make_sweep().run(tmp_path / "table", progress=stop)
    assert not (tmp_path / "table").exists()
    told = []
    make_sweep().run(tmp_path / "table", resume=True, progress=lambda done, total: told.append((done, total)))
    assert 8 * chunks < told[0][0] <= 8 * chunks + 5
    assert told[-1] == (43, 43)
    assert contents(tmp_path / "table") == contents(tmp_path / "whole")
    assert not partial_folder(tmp_path / "table").exists()


KILLED = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
import adapcli
from adapcli.sweep import sweep
from adapcli.sweep.samples import Samples
sweep.LARGEST_CHUNK = 32
model = adapcli.load(sys.argv[1])
samples = Samples.open("digits", model.preprocessing, limit=1500)
sweep.Sweep(model, samples, model.config.space, batch=32).run(Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_resumes_to_the_same_bits(make_model, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_module, "LARGEST_CHUNK", 32)
    adapcli.save(make_model(num_classes=10), tmp_path / "m.pt")
    command = [sys.executable, "-c", KILLED, tmp_path / "m.pt", tmp_path / "table"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    victim, ledger = subprocess.Popen(command, env=environment), tmp_path / "table.partial" / "ledger"
    while len(list(ledger.glob("0*.json"))) < 3:
        assert victim.poll() is None, "ended before it could be killed"
        time.sleep(0.005)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert 3 <= len(list(ledger.glob("0*.json"))) < 1500 // 32, "killed in the middle"
    assert not (tmp_path / "table").exists()
    model = adapcli.load(tmp_path / "m.pt")
    samples = Samples.open("digits", model.preprocessing, limit=1500)
    for name in ("table", "whole"):
        Sweep(model, samples, model.config.space, batch=32).run(tmp_path / name, resume=True)
    assert contents(tmp_path / "table") == contents(tmp_path / "whole")


def test_resume_starts_where_nothing_is_and_returns_what_is_finished(make_sweep, tmp_path, small_chunks):
    make_sweep().run(tmp_path / "table", resume=True)
    before = contents(tmp_path / "table")
    told = []
    table = make_sweep().run(tmp_path / "table", resume=True, progress=lambda *now: told.append(now))
    assert isinstance(table, OutcomeTable)
    assert told == []
    assert contents(tmp_path / "table") == before


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"ffn": "swiglu"}, "fingerprints.checkpoint"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"sizes": (13, 4, 9, 18)}, "sizes.test: 17 there, 18 here"),
        ({"axes": {"depths": [1, 3]}}, "grid.depths: [1, 2, 3] there, [1, 3] here"),
    ],
)
def test_resume_refuses_another_job(make_sweep, tmp_path, small_chunks, finished, changed, told):
    def stop(done, total):
        raise KeyboardInterrupt

    if finished:
        make_sweep().run(tmp_path / "table")
    else:
        with pytest.raises(KeyboardInterrupt):
            make_sweep().run(tmp_path / "table", progress=stop)
    with pytest.raises(FileError) as caught:
        make_sweep(**changed).run(tmp_path / "table", resume=True)
    assert told.removeprefix("fingerprints.") in caught.value.message


def test_what_is_there_is_not_overwritten_silently(make_sweep, tmp_path, small_chunks):
    make_sweep().run(tmp_path / "table")
    before = contents(tmp_path / "table")
    with pytest.raises(UsageError):
        make_sweep(seed=1).run(tmp_path / "table")
    assert contents(tmp_path / "table") == before
    make_sweep(seed=1).run(tmp_path / "table", overwrite=True)
    assert OutcomeTable.load(tmp_path / "table").meta["seed"] == 1


def test_a_torn_chunk_is_done_again_and_told(make_sweep, tmp_path, small_chunks):
    def stop(done, total):
        if done > 24:
            raise KeyboardInterrupt

    make_sweep().run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        make_sweep().run(tmp_path / "table", progress=stop)
    with (partial_folder(tmp_path / "table") / "nll.npy").open("r+b") as file:
        file.seek(128 + 20 * 36 * 4)
        file.write(b"torn")
    told = []
    make_sweep().run(tmp_path / "table", resume=True, warn=told.append)
    assert len(told) == 1
    assert "rows 16..24" in told[0]
    assert contents(tmp_path / "table") == contents(tmp_path / "whole")


def test_another_task_is_refused_by_name(make_samples, make_model):
    model = make_model(task="features", output_feat_dim=6)
    with pytest.raises(FileError, match="for features"):
        Sweep(model, make_samples(), model.config.space)


def test_other_classes_are_refused(make_samples, make_model):
    model = make_model(num_classes=9)
    with pytest.raises(FileError, match="9 classes, the data 7"):
        Sweep(model, make_samples(), model.config.space)
    named = make_model(class_names=tuple("012345x"))
    with pytest.raises(FileError, match="class 'x' of the checkpoint is '6' in the data"):
        Sweep(named, make_samples(), named.config.space)


def test_many_classes_need_wider_predictions(make_samples, make_model, tmp_path):
    model = make_model(num_classes=40_000)
    space = model.config.space.restrict(tokens=[1], widths=[6], depths=[1])
    table = Sweep(model, make_samples((1, 1, 1, 1), classes=40_000), space).run(tmp_path / "table")
    assert table.prediction.dtype == np.int32


def test_the_estimate_of_the_disk_is_close(make_sweep, tmp_path):
    sweep = make_sweep(sizes=(200, 50, 100, 300))
    found = estimate(sweep)
    assert not list(tmp_path.iterdir())
    assert found.samples == 650
    assert found.passes == 3
    assert 0 < found.seconds < 60
    sweep.run(tmp_path / "table")
    size = sum(path.stat().st_size for path in (tmp_path / "table").iterdir())
    assert found.disk_bytes == pytest.approx(size, rel=0.1)


def test_meta_is_json_and_says_how_to_open_the_data_again(make_sweep, tmp_path):
    sweep = make_sweep()
    meta = OutcomeTable.load(sweep.run(tmp_path / "table") and tmp_path / "table").meta
    assert json.dumps(sweep.meta())
    assert meta["data"]["name"] == "numbers"
    assert meta["data"]["limits"] == sweep.samples.sizes
    assert meta["fingerprints"]["device"] == "cpu"
    assert meta["versions"]["adap"] == adapcli.__version__


def test_chunks_shrink_for_costly_models(make_sweep, monkeypatch):
    assert make_sweep().chunk == 512
    monkeypatch.setattr(Sweep, "flops_per_sample", property(lambda self: int(2.3e11)))
    assert make_sweep().chunk == 64
    monkeypatch.setattr(Sweep, "flops_per_sample", property(lambda self: int(1e15)))
    assert make_sweep().chunk == 1
