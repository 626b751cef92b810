"""Patch embeddings in a table: what they are, what they cost, and that nothing else changes with them."""

import numpy as np
import pytest
import torch

from adapcli.errors import FileError, UsageError
from adapcli.evaluation.patches import pool_flops, pooled
from adapcli.sweep import sweep as sweep_module
from adapcli.sweep.estimate import disk_bytes
from adapcli.sweep.sweep import Sweep


@pytest.fixture
def make_sweep(make_model, make_samples):
    def build(patches=1):
        model = make_model()
        return Sweep(model, make_samples(), model.config.space, batch=5, patches=patches)

    return build


@pytest.mark.parametrize("side", [1, 2])
def test_stored_are_the_averaged_embeddings(make_sweep, tmp_path, side):
    sweep = make_sweep(side)
    table = sweep.run(tmp_path / "table")
    assert table.patches.shape == (len(sweep.samples), side * side, sweep.model.config.embed_dim)
    assert table.patches.dtype == np.float16
    for _, batch in sweep.samples.batches(0, len(sweep.samples), 1000):
        rows = table.samples.index[table.samples["sample_id"].isin(batch.sample_ids)]
        with torch.inference_mode():
            embedded = sweep.model.embed(batch.images)  # 2 x 2 patches
        expected = embedded if side == 2 else embedded.mean(dim=1, keepdim=True)
        np.testing.assert_allclose(table.patches[rows], expected, atol=2e-3)
    values = 4 * sweep.model.config.embed_dim
    assert table.meta["patches"] == {"side": side, "pool_flops": values if side == 1 else 0}


def test_nothing_else_changes(make_sweep, tmp_path):
    plain, patched = (make_sweep(side).run(tmp_path / str(side)) for side in (0, 2))
    assert plain.patches is None
    assert plain.meta["patches"] is None
    for name, array in plain.arrays().items():
        np.testing.assert_array_equal(array, patched.arrays()[name])


def test_an_interrupted_sweep_keeps_them(make_sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_module, "LARGEST_CHUNK", 8)
    whole = make_sweep(2).run(tmp_path / "whole")

    def stop(done, total):
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_sweep(2).run(tmp_path / "t", progress=stop)
    with pytest.raises(FileError, match="patches"):
        make_sweep(1).run(tmp_path / "t", resume=True)
    resumed = make_sweep(2).run(tmp_path / "t", resume=True)
    np.testing.assert_array_equal(resumed.patches, whole.patches)
    with pytest.raises(FileError, match="patches"):
        make_sweep(1).run(tmp_path / "t", resume=True)


def test_more_patches_than_there_are_is_refused(make_sweep):
    with pytest.raises(UsageError, match="patches 3: expected 1 to 2, the model has 2 x 2 patches"):
        make_sweep(3)


def test_their_disk_space_is_told(make_sweep):
    per_sample = 2 * 4 * make_sweep().model.config.embed_dim
    assert disk_bytes(make_sweep(2)) - disk_bytes(make_sweep(0)) == per_sample * len(make_sweep().samples)


@pytest.mark.parametrize(("across", "side", "averaged"), [(4, 2, 16), (4, 1, 16), (4, 4, 0), (5, 2, 36)])
def test_pooling_counts_every_value_it_averages(make_config, across, side, averaged):
    """Cells of an odd grid overlap: 3 + 3 of 5 along a side."""
    config = make_config(image_size=8 * across)
    assert pool_flops(config, side, 8 * across) == averaged * config.embed_dim
    x = torch.arange(across * across * 2.0).reshape(1, across * across, 2)
    corner = x.reshape(1, across, across, 2)[:, : -(-across // side), : -(-across // side)]
    torch.testing.assert_close(pooled(x, side)[:, 0], corner.mean(dim=(1, 2)))
