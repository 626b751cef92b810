"""A table of maps says what every configuration draws when it runs alone; however it was interrupted."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torchmetrics.regression import MeanSquaredError
from torchmetrics.segmentation import MeanIoU

from adapcli.data.dataset import Batch
from adapcli.data.dense import IGNORE
from adapcli.errors import FileError
from adapcli.evaluation.dense import passes
from adapcli.evaluation.dense.tasks import dense_task
from adapcli.sweep import estimate as estimate_module
from adapcli.sweep import sweep as sweep_module
from adapcli.sweep.estimate import disk_bytes, estimate
from adapcli.sweep.samples import Samples
from adapcli.sweep.sweep import Sweep
from policies.table import OutcomeTable, metrics

SIZES = {"fit": 9, "tune": 4, "calibration": 6, "test": 11}
TASKS = ("segmentation", "depth", "centres")


@dataclass
class Maps:
    """A data set whose sample i depends on its split and i alone."""

    split: str
    size: int
    task: str
    name: str = "maps"
    skipped: tuple = ()
    labelled: bool = True
    odd: bool = False

    def __len__(self):
        return self.size

    @property
    def class_names(self):
        return [str(k) for k in range(7)] if self.task == "segmentation" else []

    @property
    def fingerprint(self):
        return f"{self.split}-{self.size}-{self.task}"

    def batch(self, start, stop):
        images, targets = zip(*(self._sample(i) for i in range(start, stop)), strict=True)
        ids = [f"{self.split}/{i}" for i in range(start, stop)]
        return Batch(torch.stack(images), torch.stack(targets), ids)

    def _sample(self, i):
        generator = torch.Generator().manual_seed(1000 * len(self.split) + i)
        image = torch.randn(1, 16, 16, generator=generator)
        unknown = torch.rand(16, 16, generator=generator) < 0.1
        if self.task == "depth":
            return image, torch.where(unknown, 0.0, 10 * torch.rand(16, 16, generator=generator))
        if self.task == "centres":
            return image, torch.where(unknown, torch.nan, torch.randn(2, 16, 16, generator=generator))
        mask = torch.randint(8 if self.odd else 7, (16, 16), generator=generator)
        return image, torch.where(unknown, IGNORE, mask)


@pytest.fixture(scope="session")
def make_dense_sweep(make_model):
    def build(task, *, batch=5, axes=None, odd=False, **changed):
        model = make_model(task=task, output_feat_dim=12, num_bins=16, **changed)
        if task == "centres":  # so that configurations are pixels apart
            torch.nn.init.normal_(model.head.offsets.weight)
        data = {split: Maps(split, size, task, odd=odd) for split, size in SIZES.items()}
        samples = Samples(data, {"name": "maps", "seed": 0, "limits": SIZES})
        return Sweep(model, samples, model.config.space.restrict(**(axes or {})), batch=batch)

    return build


@pytest.fixture(scope="session")
def swept(make_dense_sweep, tmp_path_factory):
    tables = {task: make_dense_sweep(task) for task in TASKS}
    where = tmp_path_factory.mktemp("dense")
    return {task: (sweep, sweep.run(where / task)) for task, sweep in tables.items()}


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@torch.inference_mode()
def alone(sweep, split):
    """Targets (N, H, W), and answers and coarse maps of every configuration, each by a run of its own."""
    size, found = SIZES[split], []
    batch = sweep.samples.splits[split].batch(0, size)
    task = dense_task(sweep.model.config, sweep.image_size)
    for configuration in sweep.configurations:
        output = sweep.model(batch.images, configuration)
        found.append((task.answers(output.maps), task.signals(output.coarse)))
    answers, signals = zip(*found, strict=True)
    return batch.targets, torch.stack(answers, 1), torch.stack(signals, 1)


@pytest.mark.parametrize("task", TASKS)
def test_equals_running_each_configuration_alone(swept, task):
    sweep, table = swept[task]
    rows = table.rows("test")
    targets, answers, signals = alone(sweep, "test")
    judge = dense_task(sweep.model.config, 16)
    full = answers[:, sweep.configurations.index(sweep.model.full_configuration)]
    np.testing.assert_allclose(table.signals[rows], signals, rtol=1e-3, atol=1e-3)
    for column in range(table.n_configs):
        score, columns = judge.score(answers[:, column], targets)
        # Classes that tie at a pixel may fall either way: one pixel of an image is 1/256.
        np.testing.assert_allclose(table.score[rows, column], score, atol=0.01)
        np.testing.assert_allclose(table.metrics[rows, column], columns, rtol=1e-4, atol=1)
        agreement = judge.agreement(answers[:, column], full)
        np.testing.assert_allclose(table.agreement[rows, column], agreement, atol=0.02)
    assert (table.agreement[:, table.full] == 1).all()
    assert 0 < table.agreement[:].mean() < 1


def test_the_mean_iou_of_the_data_set_is_that_of_torchmetrics(swept):
    sweep, table = swept["segmentation"]
    targets, answers, _ = alone(sweep, "test")
    values = metrics.of_configurations(table, table.rows("test"))["mIoU"]
    for column in (0, 17, table.full):
        theirs = MeanIoU(num_classes=8, per_class=True, input_format="index")
        # All images as one: torchmetrics averages over images otherwise. Pixels that do not count become a
        # class of their own in both.
        ignored = targets == IGNORE
        found = torch.where(ignored, 7, answers[:, column]).reshape(1, -1, 16)
        wanted = torch.where(ignored, 7, targets).reshape(1, -1, 16)
        expected = theirs(found, wanted).flatten()[:7]
        present = [k for k in range(7) if bool((found == k).any() or (wanted == k).any())]
        assert values[column] == pytest.approx(expected[present].mean().item(), abs=2e-3)


def test_the_rmse_of_the_data_set_is_that_of_torchmetrics(swept):
    sweep, table = swept["depth"]
    targets, answers, _ = alone(sweep, "test")
    values = metrics.of_configurations(table, table.rows("test"))
    known = targets > 0
    for column in (0, 17, table.full):
        theirs = MeanSquaredError(squared=False)(answers[:, column][known], targets[known])
        assert values["RMSE"][column] == pytest.approx(theirs.item(), rel=1e-4)
    assert set(values) == {"RMSE", "abs-rel", "delta_1"}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("chunks", [0, 2])
def test_an_interrupted_sweep_goes_on_to_the_same_bits(make_dense_sweep, tmp_path, monkeypatch, task, chunks):
    monkeypatch.setattr(sweep_module, "LARGEST_CHUNK", 8)
    axes = {"tokens": [1, 5], "widths": [13]}
    make_dense_sweep(task, axes=axes).run(tmp_path / "whole")

    def stop(done, total):
        if done > 8 * chunks:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_dense_sweep(task, axes=axes).run(tmp_path / "table", progress=stop)
    make_dense_sweep(task, axes=axes).run(tmp_path / "table", resume=True)
    assert contents(tmp_path / "table") == contents(tmp_path / "whole")


@pytest.mark.parametrize("task", TASKS)
def test_less_memory_and_other_batches_change_only_rounding(
    make_dense_sweep, swept, tmp_path, monkeypatch, task
):
    monkeypatch.setattr(passes, "MAP_BYTES", 1)
    monkeypatch.setattr(passes, "HELD_BYTES", 1)
    sweep, (_, wide) = make_dense_sweep(task, batch=100), swept[task]
    assert sweep.scoring.batch == 1
    table = sweep.run(tmp_path / "table")
    np.testing.assert_allclose(table.signals, wide.signals, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(table.score, wide.score, atol=0.01)


def test_a_table_of_maps_says_what_it_holds(swept):
    for task, (sweep, table) in swept.items():
        assert table.meta["task"] == task
        assert (table.prediction, table.nll) == (None, None)
        assert set(table.samples["target"]) == {-1}
        assert table.signal_names == sweep.scoring.signal_names
        assert np.isfinite(table.signals).all()
    counts = swept["segmentation"][1].metrics
    assert (str(counts.dtype), counts.shape[2]) == ("uint16", 14)
    # Every pixel that counts is in one class of the target: intersections and unions add up to twice as many.
    pixels = counts[:].sum(2).astype(int)
    assert (pixels == pixels[:, :1]).all()


def test_the_full_grid_of_a_dense_model_is_told_beforehand(make_dense_sweep):
    sweep = make_dense_sweep("segmentation")
    found = estimate(sweep)
    assert found.flops_per_sample == passes.grid_flops(sweep.model.config, sweep.grid.passes, 16)
    cells = 30 * len(sweep.configurations)
    assert disk_bytes(sweep) > cells * (4 * (2 + 7) + 2 * 14)
    part = make_dense_sweep("segmentation", axes={"tokens": [1, 8], "depths": [3]})
    assert part.flops_per_sample < 0.75 * sweep.flops_per_sample


def test_a_dear_grid_is_told_from_its_full_configuration_alone(make_dense_sweep, monkeypatch):
    sweep, ran = make_dense_sweep("depth"), []
    draw = type(sweep.model).draw

    def counted(*arguments):
        ran.append(1)
        return draw(*arguments)

    monkeypatch.setattr(type(sweep.model), "draw", counted)
    monkeypatch.setattr(estimate_module, "DEAR_FLOPS", 1)
    found = estimate(sweep)
    assert (len(ran), found.measured) == (1, 1)
    assert found.seconds > 0
    assert found.flops_per_sample == sweep.flops_per_sample


def test_a_mask_that_the_model_cannot_be_scored_against_is_refused(make_dense_sweep, tmp_path):
    with pytest.raises(FileError, match="a mask holds class 7"):
        make_dense_sweep("segmentation", odd=True).run(tmp_path / "table")


@pytest.mark.parametrize("task", TASKS)
def test_a_table_survives_saving_and_taking_rows(swept, tmp_path, task):
    table = swept[task][1]
    some = table.take(table.rows("test"))
    some.save(tmp_path / "some")
    again = OutcomeTable.load(tmp_path / "some")
    assert np.array_equal(again.metrics, table.metrics[table.rows("test")])
    assert metrics.declared(again.meta) == metrics.declared(table.meta)
