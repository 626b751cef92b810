import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from adapcli.evaluation.calibration import reliability
from adapcli.report import style, tables
from adapcli.report.figures.axes import axis_effects
from adapcli.report.figures.choices import choices
from adapcli.report.figures.comparison import comparison
from adapcli.report.figures.latency import latency
from adapcli.report.figures.plane import round_numbers
from adapcli.report.figures.recalibration import recalibration
from adapcli.report.figures.reliability import reliability_curves
from adapcli.report.figures.tradeoff import tradeoff
from adapcli.report.figures.training import learning_curves
from adapcli.report.marks import Curve, Mark, looks, shade_axis
from adapcli.report.units import CostUnit
from policies.evaluate import baselines
from policies.statistics import Interval

NAMES = ["threshold", "a policy with quite a long name", "ppo", "x" * 40]


def marks(scale=1e6):
    score = Interval(0.9, 0.88, 0.92)
    found = [Mark("full configuration", "full", score, 8 * scale), Mark("chosen", "chosen", score, 4 * scale)]
    found += [Mark(name, "policy", Interval(0.9, 0.9, 0.9), (i + 1) * scale) for i, name in enumerate(NAMES)]
    bounds = [Interval(0.999, 0.99, 1), Interval(0.91, 0.9, 0.92)]  # one far above, one close to the best
    return [*found, *(Mark(f"oracle {b.mean}", "oracle", b, 0.5 * scale) for b in bounds)]


@pytest.fixture(scope="module")
def configs(synthetic_table):
    return tables.configurations(synthetic_table, baselines(synthetic_table, resamples=0).statics)


def journal(steps, every=10):
    """What a run of three stages logs, accuracies seldom."""
    step = np.arange(every, steps + 1, every)
    loss = 2 * np.exp(-step / steps) + np.random.default_rng(0).normal(0, 0.05, len(step))
    stage = np.array(["tokens", "tokens+depth", "all"])[np.minimum(3 * step // (steps + 1), 2)]
    lines = pd.DataFrame({"step": step, "stage": stage, "learning_rate": 2e-3 * (1 - step / steps)})
    lines = lines.assign(loss=2 * loss, token_loss=loss, depth_loss=np.where(stage == "tokens", 0, loss))
    corners = ("full", "narrowest", "shallowest", "fewest_tokens", "cheapest")
    scores = {
        f"accuracy_{name}": 0.9 - 0.1 * i - 0.5 * np.exp(-step / steps) for i, name in enumerate(corners)
    }
    return lines.assign(**scores, feature_loss=0.0)


@pytest.fixture(scope="module")
def drawings(synthetic_table, configs):
    unit = CostUnit.of(configs["cost_flops"])
    curve = Curve("static front", np.array([1e6, 2e6, 8e6]), np.array([0.5, 0.8, 0.9]))
    effects = tables.axis_effects(configs, synthetic_table.full)
    bins = reliability(np.linspace(0, 1, 50), np.arange(50) > 20)
    shares = pd.DataFrame(
        [(n, axis, v, 0.25) for n in NAMES for axis in ("tokens", "depth") for v in (1, 2, 4, 8)],
        columns=["name", "axis", "value", "share"],
    )
    timed = pd.DataFrame({"cost_flops": [1e6, 5e6] * 2, "median_ms": [1.0, 2, 3, 4], "batch": [1, 1, 64, 64]})
    changed = pd.DataFrame({"cost_flops": np.geomspace(1e6, 2e7, 9), "gain": np.linspace(-0.01, 0.02, 9)})
    changed = changed.assign(low=changed["gain"] - 0.02, high=changed["gain"] + 0.02)
    changed = changed.assign(ece_before=0.05, ece_after=np.linspace(0.01, 0.02, 9))
    name = {"score_name": "accuracy"}
    return {
        "tradeoff": lambda at: tradeoff(configs, [curve], marks(), unit=unit, layout=at, **name),
        "axes": lambda at: axis_effects(effects, layout=at, **name),
        "choices": lambda at: choices(shares, layout=at),
        "reliability": lambda at: reliability_curves({"t1 w2 l3": bins, "t8 w2 l3": bins}, layout=at, **name),
        "comparison": lambda at: comparison([curve, curve], unit=unit, layout=at, **name),
        "latency": lambda at: latency(timed, unit=unit, layout=at),
        "training": lambda at: learning_curves(journal(2000), layout=at),
        "recalibration": lambda at: recalibration(changed, unit=unit, layout=at),
    }


FIGURES = ("tradeoff", "axes", "choices", "reliability", "comparison", "latency", "training", "recalibration")


@pytest.mark.parametrize("layout", style.LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("name", FIGURES)
def test_no_label_is_cut_off_or_hidden_by_another(drawings, name, layout):
    figure = drawings[name](layout)
    canvas = FigureCanvasAgg(figure)
    with style.settings():
        canvas.draw()
        boxes = text_boxes(figure, canvas.get_renderer())
    page = figure.bbox.padded(1)
    for text, box in boxes:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text
    for i, (text, box) in enumerate(boxes):
        for other, its in boxes[i + 1 :]:
            assert not box.padded(-1).overlaps(its.padded(-1)), (text, other)


def text_boxes(figure, renderer):
    """What is drawn: titles, axis labels, tick labels in view, annotations, legends."""
    texts = [t for legend in figure.legends for t in legend.get_texts()]
    for axes in figure.axes:
        titles = [t for t in axes.get_children() if isinstance(t, Text)]
        texts += [
            *titles,
            axes.xaxis.label,
            axes.yaxis.label,
            *drawn_ticks(axes.xaxis),
            *drawn_ticks(axes.yaxis),
        ]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in texts if t.get_text().strip()]


def drawn_ticks(axis):
    low, high = sorted(axis.get_view_interval())
    places = zip(axis.get_majorticklocs(), axis.get_major_ticks(), strict=True)
    return [tick.label1 for at, tick in places if low <= at <= high and tick.label1.get_visible()]


def test_cost_ticks_are_round_and_few():
    assert round_numbers(0.4, 9) == [0.5, 1, 2, 5]
    ticks = round_numbers(0.01, 1e6)
    assert 3 <= len(ticks) <= 9


def test_policies_look_different_and_oracles_are_hollow():
    found = looks(marks())
    assert len({(look.colour, look.marker) for look in found}) == len(found)
    assert [look.fill for look, mark in zip(found, marks(), strict=True) if mark.kind == "oracle"] == [
        "hollow"
    ] * 2


def test_a_mark_looks_the_same_in_both_panels(drawings):
    whole, close = drawings["tradeoff"](style.WIDE).axes
    seen = {line.get_label(): (line.get_marker(), line.get_color()) for line in whole.lines}
    shared = [line for line in close.lines if not line.get_label().startswith("_")]
    assert len(shared) > 5
    assert all(seen[line.get_label()] == (line.get_marker(), line.get_color()) for line in shared)


def test_many_policies_still_look_different():
    many = [Mark(str(i), "policy", Interval(0.9, 0.8, 1.0), 1.0) for i in range(30)]
    assert len({(look.colour, look.marker) for look in looks(many)}) == 30


def test_shades_follow_depth_else_another_axis_else_nothing():
    frame = pd.DataFrame({"tokens": [1, 2], "depth": [3, 3]})
    assert shade_axis(frame) == "tokens"
    assert shade_axis(frame.assign(depth=[1, 2])) == "depth"
    assert shade_axis(pd.DataFrame({"model": ["a", "b"]})) is None


def test_a_loss_that_a_stage_does_not_have_is_not_drawn_there():
    losses, *_ = learning_curves(journal(2000)).axes
    drawn = {line.get_label(): line for line in losses.lines}
    assert set(drawn) >= {"total", "tokens", "depth"}
    assert "features" not in drawn
    assert min(drawn["depth"].get_xdata()) > 600
    assert min(drawn["tokens"].get_xdata()) == 10


@pytest.mark.parametrize("columns", [["loss"], ["accuracy_full"], []])
def test_curves_are_drawn_of_whatever_was_logged(columns):
    lines = journal(100)[["step", "stage", "learning_rate", *columns]]
    assert len(learning_curves(lines).axes) == 3
    assert len(learning_curves(lines[:1]).axes) == 3


def test_of_a_single_configuration_mark_and_interval_are_inside_both_panels():
    unit = CostUnit.of([5e6])
    configs = pd.DataFrame({"cost_flops": [5e6], "score": [0.8], "depth": [3]})
    mark = Mark("full configuration", "full", Interval(0.8, 0.61, 0.92), 5e6)
    curve = Curve("static front", np.array([5e6]), np.array([0.8]))
    for axes in tradeoff(configs, [curve], [mark], unit=unit, score_name="accuracy").axes:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert left < 5e6 / unit.flops < right
        assert bottom < 0.61 < 0.92 < top
