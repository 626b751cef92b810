"""What a report tells of policies in use: images by what is spent on them, promised beside measured speed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapcli.main import main
from adapcli.measure.bench import Row
from adapcli.report import document as blocks
from adapcli.report import style
from adapcli.report.examples import COUNT, from_cheap_to_dear
from adapcli.report.findings import gather
from adapcli.report.labels import configuration
from adapcli.report.sections import choices
from adapcli.report.sections.hardware import _promised
from adapcli.run import Run
from policies.table import OutcomeTable


@given(st.lists(st.integers(1, 30), min_size=1, max_size=80))
def test_every_amount_spent_is_shown_cheapest_first(amounts):
    cost = np.array(amounts, dtype=np.float64)
    places = from_cheap_to_dear(cost)
    shown, levels = cost[places], np.unique(cost)
    assert len(set(places.tolist())) == len(places) <= COUNT
    assert (np.diff(shown) >= 0).all()
    assert {shown[0], shown[-1]} == {levels[0], levels[-1]} or len(levels) == 1
    assert len(np.unique(shown)) == min(len(levels), COUNT)
    counts = np.unique(shown, return_counts=True)[1]
    enough = (np.unique(cost, return_counts=True)[1] >= COUNT).all()
    assert not enough or counts.max() - counts.min() <= 1


def test_images_are_shown_by_what_the_best_policies_spend(full_run, monkeypatch):
    """The pictures themselves are of data that this run does not have: their place is what counts."""
    found = gather(full_run)
    example = blocks.Example(b"png", "3", ["line"])
    monkeypatch.setattr(choices, "examples", lambda findings: [example] * 2)
    monkeypatch.setattr(choices, "spent_on", lambda findings, judged: [example] * 2)
    galleries = [b for b in choices.section(found).blocks if isinstance(b, blocks.Gallery)]
    names = [g.alt.removeprefix("Images from cheap to dear for ") for g in galleries[1:]]
    assert names[0] == found.best_policy.name
    assert set(names) <= {p.name for p in found.policies if p.per_sample}
    assert len(names) == min(choices.GALLERIES, sum(p.per_sample for p in found.policies))


def row(kind, name):
    return Row(kind, name, batch=1, median_ms=1.0, q25_ms=1.0, q75_ms=1.0, samples_per_s=1000.0,
               peak_memory_bytes=1, rounds=1, samples=1)  # fmt: skip


def test_flops_promise_against_direct(full_run):
    found = gather(full_run)
    direct = found.table.meta["full_configuration"]["published_flops"]
    for at in (0, found.table.full):
        name = configuration(found.table.configs, at)
        assert _promised(found, row("static", name)) == pytest.approx(direct / found.table.cost_flops[at])
    policy = found.policies[0]
    promised = _promised(found, row("policy", policy.name))
    assert promised == pytest.approx(direct / policy.evaluation.cost_flops.mean)
    assert _promised(found, row("direct", "direct")) == 1
    assert _promised(found, row("policy", "gone")) is None


def test_a_cascade_s_models_are_its_axis(tmp_path):
    """By what they cost, not by name."""
    rng, cost = np.random.default_rng(0), np.array([1.0, 5.0, 50.0])
    configs = pd.DataFrame(
        {"model": ["z", "m", "a"], "cost_flops": cost, "readout_flops": 0, "memory_bytes": 1}
    )
    table = OutcomeTable.from_arrays(
        configs=configs,
        score=rng.random((400, 3)) < [0.5, 0.8, 0.9],
        increment_flops=np.where(np.eye(3), 0.0, cost[None]),
        signals=rng.random((400, 3, 1)),
        signal_names=("confidence",),
        samples=pd.DataFrame({"split": np.resize(["fit", "tune", "calibration", "test"], 400)}),
    )
    table.save(tmp_path / "run" / "table")
    words = ["train-policy", "--run", str(tmp_path / "run"), "--algo", "random", "--max-drop", "0.05", "-q"]
    assert main(words) == 0
    found = gather(Run.open(tmp_path / "run"))
    shares = choices.axis_shares(found, found.policies)
    assert list(shares["axis"].unique()) == ["model"]
    assert list(shares["value"]) == ["z", "m", "a"]
    assert shares["share"].sum() == pytest.approx(1)
    (drawing,) = [b for b in choices.section(found).blocks if isinstance(b, blocks.Drawing)]
    assert drawing.draw(style.WIDE).axes
