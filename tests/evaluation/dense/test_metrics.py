"""Dense metrics: against slow simple code, and against torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.regression import MeanSquaredError
from torchmetrics.segmentation import MeanIoU

from adapcli.data.dense import IGNORE
from adapcli.errors import FileError
from adapcli.evaluation.dense.depth import Depth, delta_1, depth_sums
from adapcli.evaluation.dense.segmentation import Segmentation, class_counts, image_iou

CLASSES = 4


@st.composite
def maps(draw, classes=CLASSES, ignored=True):
    """Answers and targets of a few images; some classes are absent, some pixels do not count."""
    n, side = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    known = draw(st.integers(1, classes))
    answers, targets = rng.integers(0, known, (2, n, side, side))
    if ignored:
        targets = np.where(rng.random(targets.shape) < draw(st.sampled_from([0, 0.3, 1])), IGNORE, targets)
    return torch.from_numpy(answers), torch.from_numpy(targets)


def slow_counts(answer, target):
    both, either = [0] * CLASSES, [0] * CLASSES
    for found, wanted in zip(answer.flatten().tolist(), target.flatten().tolist(), strict=True):
        if wanted == IGNORE:
            continue
        for k in range(CLASSES):
            both[k] += found == k and wanted == k
            either[k] += found == k or wanted == k
    return both, either


def slow_iou(both, either):
    present = [b / e for b, e in zip(both, either, strict=True) if e]
    return sum(present) / len(present) if present else 1.0


@settings(deadline=None)
@given(maps())
def test_counts_and_image_iou_equal_counting_pixel_by_pixel(pair):
    both, either = class_counts(*pair, CLASSES)
    for i, (answer, target) in enumerate(zip(*pair, strict=True)):
        slow = slow_counts(answer, target)
        assert (both[i].tolist(), either[i].tolist()) == slow
        assert image_iou(both, either)[i].item() == pytest.approx(slow_iou(*slow), abs=1e-6)


@settings(deadline=None)
@given(maps())
def test_miou_is_of_summed_counts_and_leaves_out_classes_that_are_nowhere(pair):
    task = Segmentation(CLASSES, pixels=25)
    _, columns = task.score(*pair)
    slow = [slow_counts(a, t) for a, t in zip(*pair, strict=True)]
    both, either = np.sum([b for b, _ in slow], 0), np.sum([e for _, e in slow], 0)
    value = task.dataset_metrics[0].value(columns.sum(0))
    if either.any():
        assert value == pytest.approx(slow_iou(both.tolist(), either.tolist()), abs=1e-12)
    else:
        assert np.isnan(value)


@settings(deadline=None, max_examples=30)
@given(maps(ignored=False))
def test_image_iou_equals_torchmetrics(pair):
    theirs = MeanIoU(num_classes=CLASSES, per_class=True, input_format="index")
    for answer, target in zip(*pair, strict=True):
        theirs.reset()
        per_class = theirs(answer[None], target[None])
        ours = image_iou(*class_counts(answer[None], target[None], CLASSES))
        present = torch.tensor([bool(((answer == k) | (target == k)).any()) for k in range(CLASSES)])
        assert ours.item() == pytest.approx(per_class.flatten()[present].mean().item(), abs=1e-6)


@settings(deadline=None)
@given(maps())
def test_agreement_with_itself_is_1_and_symmetric(pair):
    answers, other = pair[0], pair[1].clamp_max(CLASSES - 1)
    task = Segmentation(CLASSES, pixels=25)
    assert torch.equal(task.agreement(answers, answers), torch.ones(len(answers)))
    assert torch.equal(task.agreement(answers, other), task.agreement(other, answers))


def test_a_mask_with_an_unknown_class_is_refused():
    task = Segmentation(CLASSES, pixels=4)
    task.check(torch.tensor([[[0, IGNORE], [3, 1]]]))
    with pytest.raises(FileError, match="a mask holds class 4, the model knows 0 to 3"):
        task.check(torch.tensor([[[0, 4]]]))
    with pytest.raises(FileError, match="class -1"):
        task.check(torch.tensor([[[-1, 2]]]))


def test_more_than_65535_pixels_need_wider_counts():
    assert Segmentation(2, pixels=255**2).metrics_dtype == "uint16"
    assert Segmentation(2, pixels=256**2).metrics_dtype == "uint32"


@st.composite
def depths(draw):
    n, side = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    found, wanted = rng.uniform(0.01, 10, (2, n, side, side)).astype(np.float32)
    wanted = np.where(rng.random(wanted.shape) < draw(st.sampled_from([0, 0.4, 1])), 0, wanted)
    far = rng.random(wanted.shape) < 0.1
    return torch.from_numpy(found), torch.from_numpy(np.where(far, 12, wanted).astype(np.float32))


@settings(deadline=None)
@given(depths())
def test_depth_errors_equal_counting_pixel_by_pixel(pair):
    sums = depth_sums(*pair, farthest=10.0)
    for i, (found, wanted) in enumerate(zip(*pair, strict=True)):
        pixels = zip(found.double().flatten().tolist(), wanted.double().flatten().tolist(), strict=True)
        known = [(p, t) for p, t in pixels if 0 < t <= 10]
        close = sum(max(p / t, t / p) < 1.25 for p, t in known)
        squared, relative = sum((p - t) ** 2 for p, t in known), sum(abs(p - t) / t for p, t in known)
        assert sums[i].tolist() == pytest.approx([len(known), close, squared, relative])
        share = close / len(known) if known else 1.0
        assert delta_1(*pair, farthest=10.0)[i].item() == pytest.approx(share, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(depths())
def test_rmse_of_the_data_set_equals_torchmetrics_on_all_its_pixels(pair):
    task, known = Depth(0.001, 10.0), (pair[1] > 0) & (pair[1] <= 10)
    _, columns = task.score(*pair)
    found = {metric.name: float(metric.value(columns.sum(0))) for metric in task.dataset_metrics}
    if not known.any():
        assert all(map(np.isnan, found.values()))
        return
    theirs = MeanSquaredError(squared=False)(pair[0][known], pair[1][known])
    assert found["RMSE"] == pytest.approx(theirs.item(), rel=1e-5)
    relative = ((pair[0] - pair[1]).abs() / pair[1])[known].double().mean().item()
    assert found["abs-rel"] == pytest.approx(relative, rel=1e-5)


def test_depth_agreement_counts_every_pixel_and_is_1_with_itself():
    task, maps = Depth(0.001, 10.0), torch.rand(3, 4, 4) * 9 + 1
    assert torch.equal(task.agreement(maps, maps), torch.ones(3))
    assert torch.equal(task.agreement(maps * 1.2, maps), torch.ones(3))
    assert torch.equal(task.agreement(maps * 1.3, maps), torch.zeros(3))


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_depth_maps_that_cannot_be_are_refused(bad):
    with pytest.raises(FileError, match="below 0"):
        Depth(0.001, 10.0).check(torch.tensor([[1.0, bad]]))


def test_signals_of_a_sure_map_and_of_one_that_knows_nothing():
    task = Segmentation(CLASSES, pixels=16)
    sure = torch.zeros(1, CLASSES, 4, 4)
    sure[:, 2] = 50.0
    names = task.signal_names
    found = dict(zip(names, task.signals(torch.cat((sure, torch.zeros_like(sure)))).T.tolist(), strict=True))
    assert found["mean_confidence"] == pytest.approx([1, 1 / CLASSES])
    assert found["mean_entropy"] == pytest.approx([0, np.log(CLASSES)], abs=1e-6)
    assert found["sure_share"] == [1, 0]
    assert found["boundary_share"] == [0, 0]
    half = sure.clone()
    half[:, 1, :, 2:] = 100.0
    share = task.signals(half)[0, names.index("boundary_share")].item()
    assert share == pytest.approx(4 / 24)  # one column of 4 of the 2 x 12 pairs


def test_signals_of_depth_rise_with_sharpness():
    task = Depth(0.001, 10.0)
    metres = torch.full((2, 3, 3), 2.0)
    spread = torch.stack((torch.zeros(3, 3), torch.full((3, 3), task.even_spread)))
    found = dict(
        zip(task.signal_names, task.signals(torch.stack((metres, spread), 1)).T.tolist(), strict=True)
    )
    assert found["mean_sharpness"] == pytest.approx([1, 0])
    assert found["mean_relative_spread"] == pytest.approx([0, task.even_spread / 2])
    assert found["roughness"] == [0, 0]
    assert found["mean_depth"] == [2, 2]


def test_least_sure_cells_show_in_a_signal_of_their_own():
    task = Segmentation(2, pixels=100)
    logits = torch.zeros(1, 2, 10, 10)
    logits[:, 0] = 20.0
    logits[0, 0, 0] = 0.0  # one row of ten knows nothing
    least = task.signals(logits)[0, task.signal_names.index("least_confidence")].item()
    assert least == pytest.approx(0.5)
