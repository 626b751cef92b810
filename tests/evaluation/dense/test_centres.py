"""Offsets to centres: targets, metrics, loss, signals, files and colours, against slow simple code."""

import io
import math
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapcli.data.scenes import Scenes, SceneSpec
from adapcli.errors import FileError
from adapcli.evaluation.dense.centres import NEAR_PX, Centres, centres_loss
from adapcli.evaluation.dense.drawing import GREY

NAN = float("nan")


@st.composite
def offsets(draw):
    """Answers and targets of a few images; some pixels, or all, have no centre."""
    n, side = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    found, wanted = rng.normal(0, 2, (2, n, 2, side, side)).astype(np.float32)
    background = rng.random((n, 1, side, side)) < draw(st.sampled_from([0, 0.4, 1]))
    return torch.from_numpy(found), torch.from_numpy(np.where(background, np.float32(NAN), wanted))


def pixel_errors(found, wanted):
    """Endpoint errors of one image's scored pixels, one by one."""
    places = [(i, j) for i in range(found.shape[1]) for j in range(found.shape[2])]
    pairs = [(found[:, i, j].tolist(), wanted[:, i, j].tolist()) for i, j in places]
    return [math.dist(f, w) for f, w in pairs if not math.isnan(w[0])]


@settings(deadline=None)
@given(offsets())
def test_scores_and_the_metric_of_the_data_set_equal_counting_pixel_by_pixel(pair):
    task = Centres(8)
    score, columns = task.score(*pair)
    errors = [pixel_errors(f, w) for f, w in zip(*pair, strict=True)]
    for i, image in enumerate(errors):
        near = sum(error <= NEAR_PX for error in image)
        assert columns[i].tolist() == pytest.approx([len(image), near, sum(image)])
        assert score[i].item() == pytest.approx(near / len(image) if image else 1.0, abs=1e-6)
    every = list(chain.from_iterable(errors))
    found = {metric.name: float(metric.value(columns.sum(0))) for metric in task.dataset_metrics}
    if not every:
        assert all(map(math.isnan, found.values()))
        return
    assert found["endpoint error"] == pytest.approx(sum(every) / len(every))
    told = task.summary(columns.sum(0))
    assert told["endpoint_error"] == pytest.approx(found["endpoint error"])
    assert told["near"] == pytest.approx(found["within 2 px"])


@settings(deadline=None)
@given(offsets())
def test_the_loss_is_the_mean_over_scored_values_and_only_they_have_gradients(pair):
    found, wanted = pair[0].requires_grad_(), pair[1]
    loss = centres_loss(found, wanted)
    apart = [abs(f - w) for f, w in zip(found.flatten().tolist(), wanted.flatten().tolist(), strict=True)]
    losses = [x * x / 2 if x < 1 else x - 0.5 for x in apart if not math.isnan(x)]
    assert loss.item() == pytest.approx(sum(losses) / max(len(losses), 1), rel=1e-5)
    loss.backward()
    assert bool((found.grad[wanted.isnan()] == 0).all())
    assert bool(found.grad.isfinite().all())


def test_agreement_counts_every_pixel_and_is_1_with_itself():
    task, maps = Centres(4), torch.randn(3, 2, 4, 4)
    assert torch.equal(task.agreement(maps, maps), torch.ones(3))
    moved = maps.clone()
    moved[:, 0, :2] += NEAR_PX + 0.1
    moved[:, 1, 2:] += NEAR_PX - 0.1
    assert torch.equal(task.agreement(moved, maps), torch.full((3,), 0.5))


@pytest.mark.parametrize(
    "bad", [torch.zeros(1, 4, 4), torch.zeros(1, 3, 4, 4), torch.full((1, 2, 2, 2), math.inf)]
)
def test_targets_that_cannot_be_are_refused(bad):
    task = Centres(4)
    task.check(task.blank(2, 4))
    with pytest.raises(FileError, match="offsets to centres: expected"):
        task.check(bad)


def test_targets_lead_from_each_pixel_of_a_digit_to_the_centre_of_that_digit():
    scenes = Scenes(SceneSpec(), split="tune")
    found, table = scenes.batch(0, 64, ("mask", "centres")), scenes.table(0)
    assert torch.equal(found.centres.isnan().any(1), found.mask == 0)
    digits = 0
    for scene, i, j in (found.mask > 0).nonzero()[::7].tolist():
        vote = found.centres[scene, :, i, j] + torch.tensor([i + 0.5, j + 0.5])
        known = [
            slot
            for slot in np.flatnonzero(table.digits.present[scene])
            if np.allclose(table.digits.centre[scene, slot], vote, atol=1e-3)
        ]
        assert int(found.mask[scene, i, j]) - 1 in table.values[scene, known]
        digits += 1
    assert digits > 500


def test_neighbours_that_vote_for_one_place_agree():
    task, side = Centres(16), 4
    cells = (torch.arange(side) + 0.5) * 4
    place = torch.stack(torch.meshgrid(cells, cells, indexing="ij"))
    both = torch.stack((torch.tensor([5.0, 9.0])[:, None, None] - place, torch.zeros_like(place)))
    found = dict(zip(task.signal_names, task.signals(both).T.tolist(), strict=True))
    assert found["mean_consensus"][0] == pytest.approx(1)
    assert found["least_consensus"][0] == pytest.approx(1)
    assert found["mean_gap"] == pytest.approx([0, 4 * 24 / 25], abs=1e-5)
    assert found["vote_spread"][0] == pytest.approx(0, abs=1e-5)
    assert found["mean_consensus"][1] < 0.1
    assert found["mean_offset"][1] == 0


def test_a_grid_of_one_cell_has_signals_too():
    assert bool(Centres(8).signals(torch.randn(2, 2, 1, 1)).isfinite().all())


def test_a_file_holds_the_offsets_bit_by_bit():
    answer = np.random.default_rng(0).normal(0, 3, (2, 5, 4)).astype(np.float32)
    stored = np.load(io.BytesIO(Centres(8).encoded(answer)), allow_pickle=False)
    assert stored.dtype == np.float32
    assert np.array_equal(stored, answer)


def test_colours_tell_directions_and_leave_the_background_grey():
    target = np.full((2, 3, 3), NAN, np.float32)
    target[:, 0, 0], target[:, 1, 1], target[:, 2, 2] = (0, 5), (0, 0), (0, -5)
    shown = Centres(3).coloured(target, target)
    assert shown[0, 1].tolist() == list(GREY)
    assert shown[1, 1].tolist() == [255, 255, 255]
    assert shown[0, 0].tolist() == [255, 0, 0]
    assert shown[2, 2].tolist() == [0, 255, 255]
    assert (
        Centres(3).coloured(np.ones_like(target), np.full_like(target, NAN)).tolist()
        == [[list(GREY)] * 3] * 3
    )
