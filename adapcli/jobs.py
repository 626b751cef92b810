"""The work of the commands for Python: `adapcli.sweep`, `search`, `report`, `bench` and `train`.

Each does what the command of its name does, in the same run folder (`run`: a folder; default $ADAP_RUN, else
`adap-run`), says nothing, and returns what was made. Progress, where there is a bar, is
`progress(done, total, note)`. Errors are AdapError and its kinds, as for every function of adapcli.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapcli.errors import UsageError
from adapcli.run import Run, acting_as

if TYPE_CHECKING:
    from adapcli.data.spec import DataSpec
    from adapcli.measure.bench import Row
    from adapcli.model.perceiver import AdaPerceiver
    from adapcli.report.build import Report
    from adapcli.search.result import SearchResult
    from adapcli.training.run import Trained
    from policies.table import OutcomeTable

Folder = str | Path | None


def _silent(*_: object) -> None:
    """Nobody listens."""


def sweep(
    model: "AdaPerceiver | str | Path",
    data: "str | DataSpec" = "digits",
    *,
    run: Folder = None,
    tokens: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
    limit: int | None = None,
    batch: int = 64,
    dtype: str = "float32",
    patches: int = 0,
    workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[..., None] = _silent,
    warn: Callable[[str], object] = _silent,
    **options: Any,
) -> "OutcomeTable":
    """Score every configuration on every sample; the outcome table is also kept in the run folder.

    model: a model, on the device to use, or where its checkpoint is. One that is not on disk is saved in the
    run folder, for later commands. data: as --data, such as "folder:PATH"; options: fields of
    `adapcli.data.spec.DataSpec`, such as split_by and seed. tokens, widths, depths: only these.
    """
    from adapcli.data.spec import DataSpec
    from adapcli.model.checkpoint import save
    from adapcli.model.precision import resolve_dtype
    from adapcli.sweep.samples import Samples
    from adapcli.sweep.sweep import Sweep

    folder = Run.open(run)
    loaded, source = _loaded(model)
    space = loaded.config.space.restrict(
        tokens=_axis(tokens, "tokens"), widths=_axis(widths, "widths"), depths=_axis(depths, "depths")
    )
    target = folder.claim("table", overwrite=overwrite, resume=resume)
    names, task = loaded.class_names, loaded.config.task
    spec = DataSpec.of(data, **options)
    samples = Samples.open(spec, loaded.preprocessing, limit=limit, class_names=names, task=task)
    samples = samples.recorded(folder, spec, source or "")
    if samples.overlap:
        warn(samples.overlap)
    kind, name = resolve_dtype(dtype, loaded.device), "model" if source is None else short_name(source)
    job = Sweep(loaded, samples, space, name, batch, kind, patches=patches, workers=workers)
    table = job.run(target, resume=resume, overwrite=overwrite, progress=progress, warn=warn)
    if source is None:
        source = str(folder.folder / "model.pt")
        save(loaded, source)
    facts = {**samples.facts, "sizes": samples.sizes, "fingerprints": samples.fingerprints}
    checkpoint = {"path": folder.portable(source), "fingerprint": job.fingerprints["checkpoint"]}
    with acting_as("sweep", "--ckpt", source, "--data", facts["name"]):
        folder.record(checkpoint=checkpoint, data=facts, seed=samples.facts["seed"])
    return table


def search(
    table: "OutcomeTable | None" = None,
    *,
    run: Folder = None,
    flops_target: float | None = None,
    min_score: float | None = None,
    limit: float | None = None,
    objective: str = "flops",
    overwrite: bool = False,
) -> "SearchResult":
    """Choose on the calibration split, report on the test split; all configurations are compared.

    table: this one, and nothing is saved; default: the run's, and the result is kept there as by the command.
    flops_target: a fraction in (0, 1] of the full cost; limit: of the cost in the objective's unit (FLOPs);
    min_score: the cheapest that reaches it, in [0, 1]. One at most; without any, the result holds the front
    alone and is not kept over one with a choice. Measured costs: see `adapcli.search.exhaustive`.
    """
    from adapcli.search import Target, chosen_in, exhaustive
    from policies.table import OutcomeTable

    target = Target(flops_target, min_score, limit)
    if table is not None:
        return exhaustive(table, target, objective=objective)
    folder = Run.open(run)
    result = exhaustive(OutcomeTable.load(folder.require("table")), target, objective=objective)
    if overwrite or result.choice is not None or not chosen_in(folder.search):
        result.save(folder.search, overwrite=overwrite)
        with acting_as("search"):
            folder.record()
    return result


def report(
    run: Folder = None, *, compare: Folder = None, progress: Callable[[int, int], object] = _silent
) -> "Report":
    """Draw what the run holds into its report/, in place of the one before; `.index` is the page."""
    from adapcli.report.build import build

    other = None if compare is None else Run.open(compare)
    return build(Run.open(run), compare=other, progress=progress)


def bench(
    model: "AdaPerceiver | str | Path",
    *,
    tokens: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
    batch: Sequence[int] = (1, 16),
    dtype: str = "float32",
    rounds: int = 15,
    compile: bool = False,
    progress: Callable[..., None] = _silent,
) -> "list[Row]":
    """Latency and memory of configurations and of the model as published, where the model is.

    All of the grid, or those on the given values of the axes. Nothing is kept: `adap bench` also measures the
    policies of a run and keeps all of it there.
    """
    from adapcli.measure.bench import Bench
    from adapcli.measure.device import describe, device_name
    from adapcli.measure.latency import Stopwatch
    from adapcli.measure.selection import restricted
    from adapcli.measure.workloads import prepared
    from adapcli.model.precision import resolve_dtype

    if not batch or min(batch) < 1 or rounds < 1:
        raise UsageError(f"batch {list(batch)}, rounds {rounds}: expected 1 or more")
    loaded, _ = _loaded(model)
    device, axes = loaded.device, {"tokens": tokens, "widths": widths, "depths": depths}
    grid = restricted(loaded.config.space, **{name: _axis(values, name) for name, values in axes.items()})
    own, name = prepared(loaded, device, compiled=compile), device_name(describe(device))
    job = Bench(own, grid, batch, name, resolve_dtype(dtype, device), compile, Stopwatch(rounds))
    return job.run(progress)


def train(
    recipe: str | Path = "digits-quick",
    *,
    data: str | None = None,
    run: Folder = None,
    changes: Mapping[str, Any] | None = None,
    device: str = "cpu",
    workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[..., None] = _silent,
    say: Callable[[str], None] = _silent,
) -> "Trained":
    """Train by a recipe, a packaged one's name or a .yaml file; the checkpoint is in the run's train/.

    data: in place of the recipe's, such as "folder:PATH". changes: fields of the recipe by name, such as
    {"batch": 64, "stages.0.steps": 100}.
    """
    from adapcli.measure.device import resolve
    from adapcli.training.recipe import load_recipe
    from adapcli.training.run import train as run_training

    given = dict(changes or {}) | ({} if data is None else {"data": data})
    typed = [f"{name}={json.dumps(value)}" for name, value in given.items()]
    chosen, folder = load_recipe(str(recipe), typed), Run.open(run)
    target = folder.claim("train", overwrite=overwrite, resume=resume)
    where = str(resolve(device))
    trained = run_training(
        chosen, target, resume=resume, device=where, workers=workers, progress=progress, say=say
    )
    with acting_as("train", "--recipe", recipe, *(word for change in typed for word in ("--set", change))):
        record_training(folder, trained)
    return trained


def record_training(run: Run, trained: "Trained") -> None:
    """Write the model card, and make the checkpoint and its data those of the run."""
    from adapcli.sweep.fingerprints import checkpoint_fingerprint
    from adapcli.training.run import write_card

    recipe, path = trained.metrics["recipe"], run.portable(trained.checkpoint)
    write_card(trained.metrics, trained.checkpoint.with_name("model.md"))
    run.record(
        recipe=recipe["name"],
        trained=path,
        seed=recipe["seed"],
        checkpoint={"path": path, "fingerprint": checkpoint_fingerprint(trained.model)},
        data=run.portable_data(trained.data).to_dict(),
    )


def short_name(source: str) -> str:
    """What to call a model in tables, as text: the name of its file or folder, or its place on the hub."""
    name = source.removeprefix("hf://") if source.startswith("hf://") else Path(source).absolute().stem
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _loaded(model: "AdaPerceiver | str | Path") -> "tuple[AdaPerceiver, str | None]":
    """The model in evaluation mode, and where it is on disk, if it was named by that."""
    from adapcli.model.checkpoint import load

    return (load(model), str(model)) if isinstance(model, str | Path) else (model.eval(), None)


def _axis(values: Sequence[int] | None, name: str) -> tuple[int, ...] | None:
    if isinstance(values, int):
        raise UsageError(f"{name}: expected a list of values, got {values}", f"write {name}=[{values}]")
    return None if values is None else tuple(values)
