"""The same answers on an accelerator as on the CPU.

`ADAP_TEST_DEVICE=cuda:1 pytest -m cuda` chooses the accelerator; the default is cuda, and where there is none
these tests are skipped. They run on the CPU too, against itself, so that they are known to work.
"""

import copy
import os
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import adapcli
from adapcli.evaluation.passes import GridPass
from adapcli.inference.anytime import AnytimeRun, run_anytime
from adapcli.inference.grouped import run_grouped
from adapcli.inference.session import AnytimeSession
from adapcli.measure.device import resolve
from adapcli.model.early_exit import early_exit
from adapcli.model.flops import flops
from adapcli.model.precision import autocast, resolve_dtype
from adapcli.model.readout import FoldedReadout, folded
from adapcli.space import Configuration
from adapcli.sweep.samples import Samples
from adapcli.sweep.sweep import Sweep
from adapcli.training.losses import Targets
from adapcli.training.objective import Pass, pass_losses
from adapcli.training.schema import Loss, Readouts
from policies.grid import Grid
from policies.threshold import Threshold

WANTED = os.environ.get("ADAP_TEST_DEVICE", "cuda")
THERE = not WANTED.startswith("cuda") or torch.cuda.is_available()
ON = pytest.param(
    WANTED, marks=[pytest.mark.cuda, pytest.mark.skipif(not THERE, reason=f"no {WANTED} on this machine")]
)
AT = Configuration(5, 13, 2)
PATH = [(1, 1), (2, 2), (8, 2), (8, 3)]
TAU = 0.35


@pytest.fixture(params=["cpu", ON])
def device(request):
    return resolve(request.param)


@pytest.fixture
def pair(make_model, device):
    """The same model on the CPU and on the device."""
    model = make_model()
    return model, copy.deepcopy(model).to(device)


def images(n=6, size=16):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(0))


def close(found, expected, tolerance=1e-4):
    torch.testing.assert_close(found.detach().cpu(), expected.detach(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("attention", ["block", "dense"])
@torch.no_grad()
def test_direct_runs(pair, device, attention):
    here, there = pair
    for at in (AT, here.full_configuration, Configuration(7, 24, 3), Configuration(11, 6, 1)):
        close(there(images().to(device), at, attention=attention).logits, here(images(), at).logits)


@pytest.mark.filterwarnings(
    "ignore:flex_attention called without torch.compile", "ignore::DeprecationWarning"
)
@torch.no_grad()
def test_flex_attention(make_model, device):
    """Heads of 16 channels: what the compiled kernel takes."""
    here = make_model(embed_dim=32, widths=(8, 32))
    there = copy.deepcopy(here).to(device)
    for tokens in (1, 5, 8, 11):
        at = Configuration(tokens, 32, 3)
        close(there(images().to(device), at, attention="flex").logits, here(images(), at).logits, 1e-3)


@pytest.mark.parametrize("task", ["segmentation", "depth", "distillation"])
@torch.no_grad()
def test_dense_tasks(make_model, device, task):
    here = make_model(task=task, output_feat_dim=6, num_bins=8)
    there = copy.deepcopy(here).to(device)
    x = images(size=24)
    found, expected = there(x.to(device), AT), here(x, AT)
    for name in ("logits", "features", "maps"):
        if getattr(expected, name) is not None:
            close(getattr(found, name), getattr(expected, name))


@torch.no_grad()
def test_folded_readouts_and_early_exit(pair, device):
    here, there = pair
    z = torch.randn(4, 8, 24, generator=torch.Generator().manual_seed(0))
    close(folded(there).logits(z.to(device), (1, 5, 8)), FoldedReadout.of(here, 8).logits(z, (1, 5, 8)))
    found, expected = (early_exit(m, images().to(m.device), tokens=8, width=13, confidence=0.3) for m in pair)
    close(found.logits, expected.logits)
    assert found.depth.tolist() == expected.depth.tolist()


@torch.no_grad()
def test_sessions(pair, device):
    here, there = pair
    session = AnytimeSession(there, images().to(device), width=13)
    for tokens, depth in PATH:
        found = session.extend(tokens=tokens, depth=depth).readout().logits
        close(found, here(images(), session.configuration).logits)
    kept = session.keep(torch.tensor([True, False] * 3, device=device)).restart(width=24)
    kept.extend(tokens=8, depth=3)
    close(kept.readout().logits, here(images()[::2], kept.configuration).logits)


def stopper(model):
    points = [Configuration(2, 13, depth) for depth in (1, 2, 3)]
    costs = tuple(float(flops(model.config, p, readout="folded", attention="block")) for p in points)
    rows = tuple((p.tokens, p.width, p.depth) for p in points)
    return Threshold(Grid(("tokens", "width", "depth"), rows, costs), (0, 1, 2), TAU)


def test_executors(pair, device):
    here, there = pair
    found, expected = (run_anytime(m, images(20), stopper(m), batch=4, near=1e-3) for m in (there, here))
    assert expected.near == 0, "a decision that rounding may turn compares nothing"
    assert len(set(expected.configurations)) > 1
    assert found.configurations == expected.configurations
    close(found.output.logits, expected.output.logits)
    chosen = [AT, Configuration(8, 24, 3), Configuration(5, 13, 1)] * 5
    found, expected = (run_grouped(m, images(15), chosen, batch=4) for m in (there, here))
    close(found.output.logits, expected.output.logits)


@torch.no_grad()
def test_the_grid_in_bfloat16_is_near_the_grid_in_float32(pair, device):
    here, there = pair
    at = [AT, here.full_configuration]
    ((_, exact),) = GridPass(here, [at[1]]).outputs(images())
    with autocast(device, torch.bfloat16):
        ((_, rough),) = GridPass(there, [at[1]]).outputs(images().to(device))
    error = (rough.cpu().float() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert 0 < error < 0.05


def test_a_sweep_fills_the_same_table(device, tmp_path):
    model = adapcli.load(adapcli.packaged())
    samples = Samples.open("digits", model.preprocessing, limit=60)
    space = model.config.space.restrict(tokens=[1, 8, 16], depths=[1, 6])
    here = Sweep(model, samples, space).run(tmp_path / "here")
    there = Sweep(adapcli.load(adapcli.packaged()).to(device), samples, space).run(tmp_path / "there")
    np.testing.assert_allclose(there.nll, here.nll, atol=2e-3, rtol=1e-3)
    np.testing.assert_allclose(there.signals[..., 0], here.signals[..., 0], atol=1e-3)
    assert (there.prediction == here.prediction).mean() > 0.995
    np.testing.assert_array_equal(there.features, here.features)


def test_a_training_step_has_the_same_loss_and_gradients(pair, device):
    gradients = []
    for model in pair:
        widths, x = (6, 13, 24, 24, 13, 6), images().to(model.device)
        chosen = Pass(model.full_configuration, widths, (1, 2, 5, 8), (2,))
        targets = Targets(torch.arange(6, device=model.device))
        loss = pass_losses(model, x, targets, chosen, Loss(), Readouts()).total
        found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        gradients.append([loss, *(g for g in found if g is not None)])
    for expected, found in zip(*gradients, strict=True):
        close(found, expected)


@contextmanager
def waits(device, host_waits):
    """Names of what the host waited for: told by CUDA itself, or by the pretend accelerator."""
    names = []
    if device.type != "cuda":
        with host_waits() as counted:
            yield names
        names += counted.downloads + counted.uploads
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield names
        finally:
            torch.cuda.set_sync_debug_mode("default")
    names += [str(w.message) for w in caught if "synchronizing CUDA operation" in str(w.message)]


class Counted:
    """A stopping rule that counts how often it is asked."""

    def __init__(self, rule):
        self.rule, self.grid, self.own_flops, self.asked = rule, rule.grid, 0, 0

    def reachable(self):
        return self.rule.reachable()

    def verdict(self, looks):
        self.asked += 1
        return self.rule.verdict(looks)


@torch.no_grad()
def test_a_session_waits_for_nothing_and_an_executor_once_a_decision(pair, device, host_waits):
    there, x = pair[1], images(16).to(device)
    with waits(device, host_waits) as names:
        session = AnytimeSession(there, x, width=13)
        for tokens, depth in PATH:
            session.extend(tokens=tokens, depth=depth).readout()
    assert names == []
    rule = Counted(stopper(there))
    with waits(device, host_waits) as names:
        for _ in AnytimeRun(there, x, rule, batch=4):
            pass
    assert 0 < len(names) <= rule.asked


def test_auto_is_bfloat16_on_an_accelerator_that_has_it(device):
    expected = torch.float32
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8:
        expected = torch.bfloat16
    assert resolve_dtype("auto", device) == expected
