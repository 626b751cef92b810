"""Running on an accelerator, the host does not wait for it between decisions; and the count that says so."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from adapcli.inference.anytime import AnytimeRun
from adapcli.inference.grouped import GroupedRun
from adapcli.inference.session import AnytimeSession
from adapcli.model.flops import flops
from adapcli.model.readout import folded
from adapcli.space import Configuration
from policies.grid import Grid
from policies.live import Verdict


def images(n=3, size=16):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(0))


PATH = [(1, 1), (2, 1), (2, 3), (8, 3)]
TASKS = [{}, {"mask": "causal"}] + [
    {"task": task, "output_feat_dim": 6, "num_bins": 8} for task in ("segmentation", "depth", "distillation")
]


def walk(model, x):
    session = AnytimeSession(model, x, width=13)
    for tokens, depth in PATH:
        session.extend(tokens=tokens, depth=depth)
        out = session.readout()
    session.restart(width=24).extend(tokens=8, depth=2).readout()
    return out


@pytest.mark.parametrize("changes", TASKS, ids=str)
def test_a_session_never_waits_for_the_device(make_model, host_waits, changes):
    model, x = make_model(**changes), images()
    with host_waits() as waits:
        walk(model, x)
    assert (waits.downloads, waits.uploads) == ([], [])


@pytest.mark.parametrize("changes", TASKS, ids=str)
def test_a_session_runs_where_there_are_no_values_to_wait_for(make_model, on_meta, changes):
    model = on_meta(copy.deepcopy(make_model(**changes)))
    out = walk(model, on_meta(images()))
    expected = walk(make_model(**changes), images())
    for name in ("logits", "maps"):
        if getattr(expected, name) is not None:
            assert getattr(out, name).shape == getattr(expected, name).shape
            assert getattr(out, name).is_meta


@pytest.mark.parametrize("attention", ["block", "dense"])
def test_a_forward_pass_and_the_fold_never_fetch(make_model, host_waits, attention):
    model, x = copy.deepcopy(make_model()), images()
    with host_waits() as waits, torch.no_grad():
        model(x, Configuration(5, 13, 2), attention=attention)
        folded(model)
    assert waits.downloads == []
    assert bool(waits.uploads) == (attention == "dense"), "the default sends nothing; the reference its mask"


def test_dropping_samples_by_a_mask_is_a_wait_that_is_counted(make_model, host_waits):
    session = AnytimeSession(make_model(), images(), width=13).extend(tokens=2, depth=1)
    with host_waits() as waits:
        session.keep(torch.tensor([True, False, True]))
    assert waits.count > 0


@pytest.mark.parametrize(
    "fetch",
    [
        lambda x: x.item(),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: bool(x > 0),
        lambda x: int(x),
        lambda x: float(x),
        lambda x: range(x.long()),
        lambda x: np.asarray(x),
        lambda x: x[x > 0],
        lambda x: (x > 0).nonzero(),
        lambda x: torch.where(x > 0),
        lambda x: x.masked_select(x > 0),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: torch.repeat_interleave(x, x.long()),
        lambda x: x.expand(2).clone().__setitem__(x.expand(2) > 0, x.expand(2)),
    ],
)
def test_what_fetches_is_counted_once(host_waits, fetch):
    x = torch.ones(1)
    with host_waits() as waits:
        fetch(x)
    assert (len(waits.downloads), waits.uploads) == (1, [])


@pytest.mark.parametrize(
    "send",
    [
        lambda x: torch.tensor([1.0, 2.0], device=x.device),
        lambda x: torch.tensor([1.0, 2.0]).to(x.device),
        lambda x: torch.from_numpy(np.ones(2)).to(x.device),
        lambda x: x[[0, 1]],
        lambda x: x[np.array([0])],
        lambda x: x[torch.tensor([0])],
        lambda x: x * torch.tensor([2.0, 3.0]),
    ],
)
def test_what_sends_and_waits_is_counted(host_waits, send):
    x = torch.ones(2)
    with host_waits() as waits:
        send(x)
    assert len(waits.uploads) >= 1


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x @ x.T + x.softmax(-1),
        lambda x: torch.cat((x, torch.zeros(2, 2, device=x.device))),
        lambda x: x[:, 1:],
        lambda x: x[x.argmax(-1)],
        lambda x: torch.where(x > 0, x, -x),
        lambda x: torch.from_numpy(np.arange(2)).to(x.device, non_blocking=True),
        lambda x: torch.tensor([1, 2]).sum().item(),
        lambda x: x.shape[0] + len(x) + x.numel(),
        lambda x: x.__setitem__(x > 0, 0.0),
    ],
)
def test_what_neither_fetches_nor_waits_is_not_counted(host_waits, call):
    x = torch.ones(2, 2)
    with host_waits() as waits:
        call(x)
    assert waits.count == 0, (waits.downloads, waits.uploads)


def test_what_was_fetched_belongs_to_the_host(host_waits):
    x = torch.ones(2)
    with host_waits() as waits:
        here = x.cpu()
        assert (here + 1).sum().item() == 4
        assert here.numpy().tolist() == [1, 1]
        x.sum()
    assert (waits.downloads, waits.uploads) == (["cpu"], [])


STOPS = [Configuration(2, 13, 1), Configuration(2, 13, 2), Configuration(8, 13, 2), Configuration(8, 24, 3)]


@dataclass
class Counting:
    """Stops about a third at each look, and counts how often it is asked."""

    grid: Grid
    own_flops: int = 0
    asked: int = 0

    def reachable(self):
        return tuple(range(len(STOPS)))

    def verdict(self, looks):
        self.asked += 1
        last = looks.at == len(STOPS) - 1
        stops = last | (looks.signal("confidence") * 1e4 % 3 < 1)
        return Verdict(np.where(stops, looks.at, looks.at + 1), np.full(len(looks.at), np.inf))


def counting(config):
    cost = tuple(float(flops(config, c, readout="folded", attention="block")) for c in STOPS)
    rows = tuple(("m", c.tokens, c.width, c.depth) for c in STOPS)
    return Counting(Grid(("model", "tokens", "width", "depth"), rows, cost))


def test_run_anytime_waits_once_for_each_decision(make_model, host_waits):
    model, x = make_model(), images(12)
    stopper = counting(model.config)
    with host_waits() as waits:
        pieces = list(AnytimeRun(model, x, stopper, batch=4))
    assert len(pieces) > 4
    assert stopper.asked > 4
    assert (len(waits.downloads), waits.uploads) == (stopper.asked, [])


def test_run_grouped_waits_for_nothing(make_model, host_waits):
    model, x = make_model(), images(12)
    with host_waits() as waits:
        pieces = list(GroupedRun(model, x, lambda images: (STOPS * 2)[: len(images)], batch=4))
    assert len(pieces) > 3
    assert (waits.downloads, waits.uploads) == ([], [])
