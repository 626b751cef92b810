"""Sweeps in bfloat16, and of compiled blocks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import adapcli
from adapcli.errors import FileError, UnavailableError
from adapcli.evaluation.outcomes import outcomes
from adapcli.main import main
from adapcli.model import compilation
from adapcli.sweep.sweep import Sweep
from policies.table import OutcomeTable


@pytest.fixture(scope="module")
def job(make_model, make_samples):
    model = make_model()
    return Sweep(model, make_samples(), model.config.space, batch=50)


@pytest.fixture
def adap(make_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADAP_RUN", raising=False)
    adapcli.save(make_model(num_classes=10), tmp_path / "m.pt")

    def run(*words):
        code = main(["sweep", "--ckpt", "m.pt", "--limit", "40", "--depths", "1", *words])
        return code, capsys.readouterr().err

    return run


def test_outcomes_of_bfloat16_logits_are_worked_out_in_float32(job, tmp_path):
    """Each row scores the logits of the model run alone by autocast, to what bfloat16 can tell."""
    table = replace(job, dtype=torch.bfloat16).run(tmp_path / "table")
    exact = job.run(tmp_path / "exact")
    full, batch = table.full, job.samples.splits["test"].batch(0, 17)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = outcomes(job.model(batch.images).logits, batch.targets)
    rows = table.rows("test")
    assert table.nll.dtype == np.float32
    np.testing.assert_allclose(table.nll[rows, full], expected.nll, atol=0.05)
    for at in (expected.nll, exact.nll[exact.rows("test"), full]):
        assert np.abs(table.nll[rows, full] - np.asarray(at)).max() < 0.1
    difference = np.abs(table.nll - exact.nll)
    assert 0 < difference.mean() < 0.05
    assert (table.prediction == exact.prediction).mean() > 0.9
    assert (table.meta["fingerprints"]["dtype"], exact.meta["fingerprints"]["dtype"]) == (
        "bfloat16",
        "float32",
    )


def test_features_do_not_depend_on_the_dtype(job, tmp_path):
    tables = [replace(job, dtype=t).run(tmp_path / str(t)) for t in (torch.float32, torch.bfloat16)]
    np.testing.assert_array_equal(*(table.features for table in tables))


def test_dtypes_are_not_mixed_in_one_table(job, tmp_path):
    job.run(tmp_path / "table")
    with pytest.raises(FileError, match="dtype: float32 there, bfloat16 here"):
        replace(job, dtype=torch.bfloat16).run(tmp_path / "table", resume=True)


def test_the_command_takes_a_dtype_and_float32_is_the_default(adap, tmp_path):
    assert adap("--dtype", "bfloat16")[0] == 0
    meta = OutcomeTable.load(tmp_path / "adap-run" / "table").meta
    assert (meta["fingerprints"]["dtype"], meta["compiled"]) == ("bfloat16", False)
    code, err = adap("--resume")
    assert code == 3
    assert "dtype: bfloat16 there, float32 here" in err


def test_a_dtype_that_does_not_exist(adap):
    code, err = adap("--dtype", "half")
    assert code == 2
    assert "allowed are auto, float32, bfloat16" in err


def test_compiling_where_it_cannot_be_done_is_one_line(adap, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no C++ compiler\nmore lines")

    compilation._try_out.cache_clear()
    monkeypatch.setattr(torch, "compile", fails)
    code, err = adap("--compile")
    assert code == 4
    assert "torch.compile does not work here: no C++ compiler\n" in err
    assert "hint: it needs a C++ compiler" in err
    assert not (tmp_path / "adap-run").exists()


def test_a_model_whose_blocks_cannot_be_compiled_stays_as_it_is(make_model, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no compiler")

    compilation._try_out.cache_clear()
    monkeypatch.setattr(torch, "compile", fails)
    model = make_model()
    with pytest.raises(UnavailableError):
        compilation.compile_blocks(model)
    assert "forward" not in model.blocks[0].__dict__


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_blocks_fill_the_same_table_and_continue_the_same_session(
    make_model, make_samples, tmp_path
):
    from adapcli.inference.session import AnytimeSession

    model, samples = make_model(), make_samples()
    space = model.config.space.restrict(widths=[24], depths=[1, 3])
    plain = Sweep(model, samples, space, batch=50).run(tmp_path / "plain")
    compiled = compilation.compile_blocks(make_model())
    job = Sweep(compiled, samples, space, batch=50, compiled=True)
    table = job.run(tmp_path / "compiled")
    np.testing.assert_allclose(table.nll, plain.nll, atol=1e-5, rtol=1e-5)
    assert job.fingerprints == Sweep(model, samples, space).fingerprints
    assert table.meta["compiled"]
    x = samples.splits["test"].batch(0, 3).images
    session = AnytimeSession(compiled, x, width=24)
    session.extend(tokens=2, depth=2).extend(tokens=8)
    expected = model(x, session.configuration).logits
    torch.testing.assert_close(session.readout().logits, expected.detach(), atol=1e-5, rtol=1e-5)
