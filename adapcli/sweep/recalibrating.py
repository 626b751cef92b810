"""Before a sweep: fit a recalibration on the fit split, and measure on the tune split what it brings.

As many samples as their logits fit in LOGIT_BYTES, of a part of the grid at a time: one pass, or several that
fit together.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapcli.errors import FileError, UsageError
from adapcli.evaluation.effect import Effect
from adapcli.evaluation.outcomes import Outcomes, outcomes
from adapcli.evaluation.passes import GridPass
from adapcli.evaluation.recalibration import Recalibrated, fit
from adapcli.model.precision import autocast, wide
from adapcli.sweep.sweep import Sweep
from policies.table.recalibration import Recalibration, begun
from policies.table.writer import partial_folder

FIT_SAMPLES = JUDGED_SAMPLES = 5000
"""At most so many. Measured on the packaged digits: 12 000 to fit on bring no more accuracy than 5 000."""
LOGIT_BYTES = 1 << 30
"""Logits kept at once: of a pass of 126 configurations, with 1 000 classes, those of 2 130 samples."""

Advance = Callable[[int], object]
Progress = Callable[[int, int], object]


class Plan(NamedTuple):
    """A part of the grid: its columns in the table, and how many samples of fit and tune are scored in it."""

    columns: list[int]
    fitted: int
    judged: int


def recalibrated(
    sweep: Sweep,
    folder: Path,
    *,
    given: Recalibration | None = None,
    resume: bool = False,
    progress: Progress = lambda done, total: None,
) -> Sweep:
    """The sweep with a recalibration: `given`, else that of a table begun in `folder`, else a fitted one.

    resume: as in `Sweep.run`. progress(samples done, samples in all). UsageError for a model without
    classes and for a `given` one that does not fit; FileError if the table was begun without, or is damaged.
    """
    _check(sweep, given)
    there, kept = begun(folder, partial_folder(folder)) if resume else (False, None)
    if there and kept is None:
        raise FileError(f"{folder}: begun without a recalibration", "begin again with --overwrite")
    if there:
        return replace(sweep, recalibration=given or kept)
    found, facts = _fit(sweep, given, progress)
    return replace(sweep, recalibration=found, recalibration_facts=facts)


def _check(sweep: Sweep, given: Recalibration | None) -> None:
    if not sweep.model.config.classifies:
        raise UsageError(f"only class logits are recalibrated; this is a {sweep.model.config.task} model")
    if not sweep.samples.labelled:
        raise UsageError("calibration needs labels; these images have none", "leave out --calibrate")
    wanted = len(sweep.configurations), sweep.model.config.num_classes
    if given is not None and (len(given), given.n_classes) != wanted:
        raise UsageError(
            f"a recalibration of {len(given)} configurations and {given.n_classes} classes, "
            f"the sweep has {wanted[0]} and {wanted[1]}"
        )


def plans(sweep: Sweep) -> list[Plan]:
    """What is scored for a recalibration, part by part: passes share one if all samples' logits then fit."""
    classes, sizes = sweep.model.config.num_classes or 1, sweep.samples.sizes
    most, judged = min(FIT_SAMPLES, sizes["fit"]), min(JUDGED_SAMPLES, sizes["tune"])
    parts: list[list[int]] = []
    for p in sweep.grid.passes:
        columns = [column for reading in p.readings for column in reading.columns]
        if parts and affordable(len(parts[-1]) + len(columns), classes) >= most:
            parts[-1] += columns
        else:
            parts.append(columns)
    return [Plan(columns, min(most, affordable(len(columns), classes)), judged) for columns in parts]


def affordable(n_configs: int, n_classes: int) -> int:
    """Of how many samples the logits fit in LOGIT_BYTES, 1 at least."""
    return max(1, LOGIT_BYTES // (4 * n_configs * n_classes))


def scored(sweep: Sweep) -> int:
    """How many samples a recalibration scores, all parts together."""
    return sum(plan.fitted + plan.judged for plan in plans(sweep))


def _fit(
    sweep: Sweep, given: Recalibration | None, progress: Progress
) -> tuple[Recalibration, dict[str, Any]]:
    """The recalibration, `given` or fitted part by part, and how it came about."""
    shape = len(sweep.configurations), sweep.model.config.num_classes or 0
    whole = (given or Recalibration.identity(*shape)).array()
    done, total, effects, spreads = 0, scored(sweep), [], []

    def advance(samples: int) -> None:
        nonlocal done
        done += samples
        progress(done, total)

    for plan in plans(sweep):
        grid = GridPass(sweep.model, [sweep.configurations[column] for column in plan.columns])
        if given is None:
            found, spread = fit(*_kept(sweep, grid, plan.fitted, advance))
            whole[plan.columns] = found.array()
            spreads.append(spread)
        part = Recalibration.from_array(whole[plan.columns])
        effects.append((plan.columns, _judged(sweep, grid, plan.judged, part, advance)))
    effect = Effect.joined(effects, shape[0])
    fitted = min(plan.fitted for plan in plans(sweep))
    how = {"given": True} if given else {"fit_samples": fitted, "spreads": spreads}
    return Recalibration.from_array(whole), {**how, "effect": effect.to_dict()}


@torch.inference_mode()
def _kept(sweep: Sweep, grid: GridPass, count: int, advance: Advance) -> tuple[Tensor, Tensor]:
    """Logits (count, c, K) float32 of the first fit samples, and their targets; on the model's device."""
    logits, targets = None, []
    at = 0
    for batch, labels in _logits(sweep, grid, "fit", count, advance):
        if logits is None:
            logits = batch.new_empty(count, *batch.shape[1:])
        logits[at : at + len(batch)] = batch
        targets.append(labels)
        at += len(batch)
    assert logits is not None
    return logits, torch.cat(targets)


@torch.inference_mode()
def _judged(
    sweep: Sweep, grid: GridPass, count: int, recalibration: Recalibration, advance: Advance
) -> Effect:
    """What it brings on the first tune samples."""
    change = Recalibrated.of(recalibration, sweep.model.device)
    before: list[Outcomes] = []
    after: list[Outcomes] = []
    for logits, targets in _logits(sweep, grid, "tune", count, advance):
        before.append(outcomes(logits, targets[:, None]))
        after.append(outcomes(change(logits, range(grid.n_configs)), targets[:, None]))
    return Effect.measured("tune", before, after)


def _logits(
    sweep: Sweep, grid: GridPass, split: str, count: int, advance: Advance
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of (logits (B, c, K) as they come, in float32; targets (B,)), as the sweep runs them."""
    data, device = sweep.samples.splits[split], sweep.model.device
    for start in range(0, count, sweep.batch):
        batch = data.batch(start, min(start + sweep.batch, count))
        with autocast(device, sweep.dtype):
            pieces = list(grid.outputs(batch.images.to(device)))
        logits = torch.cat([wide(piece) for _, piece in pieces], dim=1)
        order = torch.tensor([column for columns, _ in pieces for column in columns]).argsort()
        yield logits[:, order.to(device)], batch.targets.to(device)
        advance(len(batch.sample_ids))


def fit_seconds(sweep: Sweep) -> float:
    """How long the fitting itself will take: that of one configuration, on noise, times all."""
    classes, device = sweep.model.config.num_classes or 1, sweep.model.device
    generator = torch.Generator().manual_seed(0)
    total = 0.0
    for plan in plans(sweep):
        logits = torch.randn(plan.fitted, 1, classes, generator=generator).to(device)
        targets = torch.randint(classes, (plan.fitted,), generator=generator).to(device)
        begin = time.perf_counter()
        fit(logits, targets)
        total += (time.perf_counter() - begin) * len(plan.columns)
    return total
