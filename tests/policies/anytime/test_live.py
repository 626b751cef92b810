"""What decides after each look decides, answers and pays in a running model as on its table."""

from dataclasses import replace
from functools import partial

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
from policies.anytime.lattice import Lattice
from policies.anytime.path import Path
from policies.anytime.seen import Sight
from policies.base import measure, save
from policies.encoding import Prices
from policies.grid import Grid
from policies.rl import anytime
from policies.rl.recipes import ANYTIME_RECIPES
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


def looking(algo, table):
    """The policy of the family's middle by cost, of those that look."""
    family = registry.train(algo, table).family
    looks = [measure([policy], table, np.arange(80)).cost_flops[0] for policy in family]
    return family[int(np.argsort(looks)[len(looks) // 2])]


def path(table):
    """Two states, the second for half of the samples."""
    states = (0, Lattice.of(table).reachable(0)[-1])
    return Path(Grid.of(table), states, (float(np.median(table.signals[:, 0, 0])),), 0.3)


def learned(table):
    """Before training the network goes on at random, so that there are paths to compare."""
    lattice, rng = Lattice.of(table), np.random.default_rng(1)
    sight, prices = Sight.fit(table, lattice), Prices(0.05, 2.0)
    blank = anytime._untrained(table, lattice, sight, prices, "ppo", None, ANYTIME_RECIPES["ppo"])
    policy = anytime.over(blank, lattice, sight, lattice.reachable(0)).at(0.3)
    weights = tuple(rng.normal(size=layer.shape) for layer in policy.network.weights)
    return replace(policy, network=replace(policy.network, weights=weights))


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("algo", ["gate", "path", "ppo"])
def test_they_run_live(scored, batch, algo):
    model, images, table = scored
    gate = {"gate": partial(looking, "gate"), "path": path, "ppo": learned}[algo](table)
    assert len(gate.reachable()) > 1
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
