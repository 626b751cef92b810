"""A gate in a running model decides, answers and pays as it does on the table of the same samples."""

import numpy as np
import pandas as pd
import pytest
import torch

from adapcli.data.dataset import Batch
from adapcli.evaluation.outcomes import SIGNAL_NAMES
from adapcli.evaluation.passes import GridPass
from adapcli.inference.anytime import run_anytime
from adapcli.model.flops import executed_flops, increments
from adapcli.sweep.scoring import score_batch
from policies import registry
from policies.base import measure, save
from policies.table import OutcomeTable

SIZE = 16


@pytest.fixture(scope="module")
def scored(make_model):
    """A random model, images, and their outcome table."""
    model = make_model()
    configurations = list(model.config.space)
    images = torch.rand(80, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    targets = model(images, model.full_configuration).logits.argmax(1)
    ids = [str(i) for i in range(len(images))]
    full = configurations.index(model.full_configuration)
    with torch.inference_mode():
        rows = score_batch(GridPass(model, configurations), Batch(images, targets, ids), full=full)
    rows = {name: rows[name] for name in ("score", "nll", "prediction", "signals", "agreement")}
    cost = [executed_flops(model.config, c, SIZE) for c in configurations]
    axes = pd.DataFrame(
        [(c.tokens, c.width, c.depth) for c in configurations], columns=["tokens", "width", "depth"]
    )
    table = OutcomeTable.from_arrays(
        configs=axes.assign(cost_flops=cost, readout_flops=0, memory_bytes=0),
        increment_flops=increments(model.config, configurations, SIZE),
        signal_names=SIGNAL_NAMES,
        samples=pd.DataFrame({"split": np.resize(["fit", "fit", "tune", "calibration", "test"], 80)}),
        **rows,
    )
    return model, images, table


@pytest.mark.parametrize("batch", [1, 16])
def test_gates_run_live(scored, batch):
    model, images, table = scored
    family = registry.train("gate", table).family
    looks = [measure([gate], table, np.arange(80)).cost_flops[0] for gate in family]
    gate = family[int(np.argsort(looks)[len(looks) // 2])]
    assert len(gate.nodes) > 1
    expected = gate.select(table, np.arange(80))
    found = run_anytime(model, images, gate, batch=batch)
    configurations = list(model.config.space)
    same = np.array([configurations.index(c) for c in found.configurations]) == expected.configuration
    assert (~same).sum() <= found.near
    np.testing.assert_array_equal(found.cost_flops[same], expected.cost_flops[same])
    assert len(set(found.configurations)) > 1


def test_a_kept_gate_runs_alike(scored, tmp_path):
    model, images, table = scored
    gate = registry.train("gate", table, lambda_=0.2).policy
    save(gate, tmp_path)
    one, two = (run_anytime(model, images, each) for each in (gate, registry.load(tmp_path, table)))
    assert one.configurations == two.configurations
    np.testing.assert_array_equal(one.cost_flops, two.cost_flops)
