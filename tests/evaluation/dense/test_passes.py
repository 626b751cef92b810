"""Every configuration of a dense model in a few passes: the same maps as each one alone."""

import pytest
import torch

from adapcli.errors import UsageError
from adapcli.evaluation.dense import passes
from adapcli.evaluation.dense.passes import DenseGridPass, fitting_batch, grid_flops
from adapcli.model.flops import executed_flops, flops, input_flops, readout_flops, trunk_flops

DENSE = {"output_feat_dim": 12, "num_bins": 16, "decoder_dim": 8}


@pytest.mark.parametrize("task", ["segmentation", "depth"])
@pytest.mark.parametrize("decoder", ["linear", "conv"])
@pytest.mark.parametrize("mask", ["block", "causal", "none"])
def test_equals_running_each_configuration_alone(make_model, task, decoder, mask, monkeypatch):
    monkeypatch.setattr(passes, "MAP_BYTES", 1 << 14)  # a few images at a time
    model = make_model(task=task, decoder=decoder, mask=mask, **DENSE)
    configurations = list(model.config.space)
    grid, x = DenseGridPass(model, configurations), torch.randn(5, 1, 16, 16)
    seen = torch.zeros(len(configurations), 5)
    for column, start, stop, output in grid.outputs(x):
        with torch.inference_mode():
            alone = model(x[start:stop], configurations[column])
        # Norms over a decoder's few, nearly equal channels stretch what rounding leaves.
        near = 2e-5 if decoder == "linear" else 5e-4
        assert (output.maps - alone.maps).abs().max() <= near * alone.maps.abs().max()
        assert (output.coarse - alone.coarse).abs().max() <= near * alone.coarse.abs().max()
        seen[column, start:stop] += 1
    assert torch.equal(seen, torch.ones_like(seen))


def test_the_full_configuration_comes_first_for_all_images(make_model, monkeypatch):
    monkeypatch.setattr(passes, "MAP_BYTES", 1)
    model = make_model(task="segmentation", **DENSE)
    configurations = list(model.config.space)
    full = configurations.index(model.full_configuration)
    columns = [
        drawn.column
        for drawn in DenseGridPass(model, configurations, full).outputs(torch.randn(3, 1, 16, 16))
    ]
    assert columns[:3] == [full] * 3
    assert full not in columns[3:]


def test_a_classifier_is_refused(make_model):
    model = make_model()
    with pytest.raises(UsageError, match="classification model draws no maps"):
        DenseGridPass(model, list(model.config.space))


@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_flops_of_one_configuration_are_those_of_its_run(make_model, task):
    model = make_model(task=task, **DENSE)
    for configuration in list(model.config.space)[::5]:
        grid = DenseGridPass(model, [configuration])
        assert grid_flops(model.config, grid.passes) == executed_flops(model.config, configuration)


def test_flops_of_the_grid_count_queries_once_and_keys_once_per_depth(make_model):
    model = make_model(task="segmentation", **DENSE)
    config, d, n = model.config, model.config.embed_dim, 4
    grid = DenseGridPass(model, list(config.space))
    own = 0
    for c in config.space:
        shared = 2 * n * 2 * d * d + 2 * c.tokens * 2 * d * d
        own += readout_flops(config, c.tokens) - shared
    runs = sum(trunk_flops(config, p.run) for p in grid.passes)
    keys = len(config.widths) * config.depth * 2 * config.token_granularities[-1] * 2 * d * d
    assert grid_flops(config, grid.passes) == input_flops(config) + 2 * n * 2 * d * d + runs + keys + own
    assert (
        grid_flops(config, grid.passes) < sum(flops(config, c, attention="block") for c in config.space) / 2
    )


def test_fewer_images_at_once_where_memory_asks_for_it(make_model, monkeypatch):
    model = make_model(task="segmentation", **DENSE)
    grid = DenseGridPass(model, list(model.config.space))
    assert fitting_batch(model.config, grid.passes, 16, 64) == 64
    one = passes.held_bytes(model.config, grid.passes, 16)
    monkeypatch.setattr(passes, "HELD_BYTES", 3 * one)
    assert fitting_batch(model.config, grid.passes, 16, 64) == 3
    monkeypatch.setattr(passes, "HELD_BYTES", 1)
    assert fitting_batch(model.config, grid.passes, 16, 64) == 1
