"""What a run folder offers a bench, and what it keeps of one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from adapcli.measure.bench import Bench, Job, Row
    from adapcli.measure.record import Measurement, Record
    from adapcli.model.perceiver import AdaPerceiver
    from adapcli.run import Run
    from adapcli.space import Configuration
    from policies.table import OutcomeTable

STREAM_S, POLICY_IMAGES = 2.0, 256
"""A policy is timed on as many images as the full configuration answers in this time, at most so many."""


@dataclass(frozen=True)
class Benched:
    """record: what was measured before; table: None if the run has none; rows: its configurations."""

    run: "Run"
    record: "Record"
    overwrite: bool
    table: "OutcomeTable | None" = None
    rows: "dict[Configuration, int]" = field(default_factory=dict)

    @classmethod
    def open(cls, run: "Run", model: "AdaPerceiver", source: str, *, overwrite: bool) -> "Benched":
        """FileError if table or earlier measurements are of another checkpoint, or damaged."""
        from adapcli.measure.selection import rows_of
        from adapcli.sweep.fingerprints import checkpoint_fingerprint
        from policies.table import OutcomeTable, latency

        fingerprint = checkpoint_fingerprint(model)
        record = _record(run, {"path": run.portable(source), "fingerprint": fingerprint}, overwrite=overwrite)
        if not run.has("table"):
            return cls(run, record, overwrite)
        table = OutcomeTable.load(run.table, check=False)
        _refuse_other(
            f"{run.table}: swept", table.meta.get("fingerprints", {}).get("checkpoint"), fingerprint
        )
        if not overwrite:
            latency.load(run.table, table.n_configs)
        return cls(run, record, overwrite, table, rows_of(table))

    @property
    def front(self) -> "list[Configuration]":
        """The best static configurations by FLOPs; none without a table."""
        from adapcli.measure.selection import static_front

        named = {row: configuration for configuration, row in self.rows.items()}
        return [] if self.table is None else [named[row] for row in static_front(self.table)]

    def job(
        self,
        model: "AdaPerceiver",
        where: "torch.device",
        axes: Mapping[str, Any],
        batches: Sequence[int],
        *,
        dtype: str,
        compiled: bool,
        rounds: int,
    ) -> "Bench":
        """The table's configurations, else the model's grid, with the given values of the axes."""
        from adapcli.measure.bench import Bench
        from adapcli.measure.device import describe, device_name
        from adapcli.measure.latency import Stopwatch
        from adapcli.measure.selection import restricted
        from adapcli.measure.workloads import prepared
        from adapcli.model.precision import resolve_dtype

        grid = restricted(self.rows or model.config.space, **axes)
        name, own = device_name(describe(where)), prepared(model, where, compiled=compiled)
        return Bench(own, grid, batches, name, resolve_dtype(dtype, where), compiled, Stopwatch(rounds))

    def add_policies(
        self, job: "Bench", model: "AdaPerceiver", names: "Sequence[str] | None", warn: Callable[[str], None]
    ) -> list[str]:
        """Let the bench measure policies: those named, else all of the run that can; returns which.

        Errors of those named are raised, of others told to `warn`.
        """
        from adapcli.commands.policies import open_policy
        from adapcli.errors import AdapError

        known = self.run.policy_names() if names is None else names
        if not known:
            return []
        images = self._images(job)
        makers: dict[str, Callable[[int], Job]] = {}
        for name in known:
            try:
                make = partial(_policy_job, name, open_policy(name, self.run, model), job, images)
                make(1)
            except AdapError as error:
                if names is not None:
                    raise
                warn(f"policy {name} is left out: {error.message}")
            else:
                makers[name] = make
        job.extra = lambda batch: [make(batch) for make in makers.values()]
        return list(makers)

    def _images(self, job: "Bench") -> "Tensor":
        """The first test images of the data that the table was made from: what policies are timed on."""
        from adapcli.data.dataset import open_dataset
        from adapcli.errors import FileError

        data = None if self.table is None else self.table.meta.get("data")
        if not isinstance(data, dict) or not {"name", "seed"} <= set(data):
            raise FileError(
                f"{self.run.table} does not say which images", f"run `{self.run.command('sweep')}` first"
            )
        found = open_dataset(
            self.run.reopened(data),
            split="test",
            preprocessing=job.model.preprocessing,
            limit=job.affordable(STREAM_S, POLICY_IMAGES),
            class_names=job.model.class_names or None,
            task=job.model.config.task,
        )
        return found.batch(0, len(found)).images.to(job.model.device)

    def save(self, job: "Bench", rows: "list[Row]") -> "Record":
        """Write the table's latencies, if there is a table, and bench.json; returns all that is kept."""
        from adapcli.measure.bench import latency_rows
        from policies.table import latency

        folder = self.run.claim("bench", overwrite=True)
        conditions = {batch: job.condition(batch) for batch in job.batches}
        if self.table is not None:
            new = latency_rows(rows, conditions, self.rows)
            latency.save(self.run.table, new, self.table.n_configs, overwrite=self.overwrite)
        record = self.record.adding([_measurement(job, batch, rows) for batch in job.batches])
        record.save(folder)
        return record


def _record(run: "Run", checkpoint: dict[str, str], *, overwrite: bool) -> "Record":
    from adapcli.measure.record import Record

    if overwrite or not run.has("bench"):
        return Record(checkpoint)
    record = Record.load(run.bench)
    _refuse_other(f"{run.bench}: measured", record.checkpoint["fingerprint"], checkpoint["fingerprint"])
    return Record(checkpoint, record.measurements)


def _refuse_other(what: str, found: object, wanted: str) -> None:
    from adapcli.errors import FileError

    if found != wanted:
        raise FileError(
            f"{what} with another checkpoint: {found or 'unknown'}, this is {wanted}",
            "choose that one with --ckpt, or another run folder with --run",
        )


def _measurement(job: "Bench", batch: int, rows: "list[Row]") -> "Measurement":
    from adapcli.measure.device import describe, versions
    from adapcli.measure.record import Measurement

    watch = job.stopwatch
    protocol: dict[str, Any] = {
        "rounds": watch.rounds,
        "min_time_s": watch.min_time_s,
        "seed": watch.seed,
        "image_size": job.model.preprocessing.size,
    }
    return Measurement(
        condition=job.condition(batch),
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        device=describe(job.model.device),
        versions={name: found for name, found in versions().items() if found},
        protocol=protocol,
        rows=tuple(row for row in rows if row.batch == batch),
    )


def _policy_job(name: str, policy: object, job: "Bench", images: "Tensor", batch: int) -> "Job":
    from adapcli.inference.policy_job import policy_job

    return policy_job(name, policy, job.model, images, batch, job.dtype)
