"""Everything a report shows, gathered from a run folder in one place; sections only arrange and word it."""

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adapcli.errors import FileError
from adapcli.report import labels, tables
from adapcli.report.field import FieldFound, read_field
from adapcli.report.marks import Curve, Mark
from adapcli.report.policies import Judged, judge_all
from adapcli.report.units import CostUnit
from adapcli.run import Run
from policies.evaluate import baselines
from policies.pareto import front
from policies.statistics import Interval
from policies.table import OutcomeTable

if TYPE_CHECKING:
    from adapcli.evaluation.diagnosis.check import Diagnosis
    from adapcli.measure.order import Comparison
    from adapcli.measure.record import Record
    from adapcli.search import SearchResult

SPLIT = "test"
"""What is reported; everything was chosen on other splits."""
CURVES = 4
"""Trade-offs drawn in one figure."""


@dataclass(frozen=True, eq=False)
class Findings:
    """A run, evaluated on the test split.

    configs: `tables.configurations`; search: None if there is none; policies: trained ones; oracles: bounds.
    warnings: what the reader must know before anything else; bench: what was measured on hardware, None if
    nothing was; orders: FLOPs against latency, for every condition that was measured; diagnosis: of this
    checkpoint, None if there is none; field_found: all kinds of policies compared, if that was done.
    """

    run: Run
    table: OutcomeTable
    configs: pd.DataFrame
    search: "SearchResult | None"
    policies: list[Judged]
    oracles: list[Judged]
    provenance: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    bench: "Record | None" = None
    orders: "list[Comparison]" = field(default_factory=list)
    diagnosis: "Diagnosis | None" = None
    field_found: FieldFound | None = None

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        """Rows of the table that are reported on."""
        return self.table.rows(SPLIT)

    @cached_property
    def unit(self) -> CostUnit:
        """The unit of every cost in the report."""
        return CostUnit.of([self.full_flops])

    @property
    def full_flops(self) -> float:
        """Cost of the full configuration."""
        return float(self.table.cost_flops[self.table.full])

    @property
    def cheapest(self) -> int:
        """The cheapest configuration."""
        return int(self.table.cost_flops.argmin())

    @property
    def score_name(self) -> str:
        """What the score is called."""
        return labels.score_name(self.table)

    @property
    def n_text(self) -> str:
        """ "2 000 test samples"."""
        return labels.plural(len(self.rows), f"{SPLIT} sample")

    @property
    def chosen(self) -> int | None:
        """The configuration that `adap search` chose."""
        return None if self.search is None or self.search.choice is None else self.search.choice.index

    @cached_property
    def front(self) -> Curve:
        """The best static choices and their mixtures, with hindsight of the test split: the hardest rival."""
        hull = self.configs[self.configs["on_hull"]].sort_values("cost_flops")
        columns = (hull[name].to_numpy(np.float64) for name in ("cost_flops", "score"))
        return Curve("static front", *columns)

    @cached_property
    def static_front(self) -> list[int]:
        """The configurations that the search found worth running; without a search those on the test hull."""
        if self.search is not None:
            return [point.index for point in self.search.front]
        hull = self.configs[self.configs["on_hull"]].sort_values("cost_flops")
        return [int(i) for i in hull.index]

    @cached_property
    def best_policy(self) -> Judged | None:
        """The best saver on the tune split, of the per-sample policies as good as the static choice there.

        Of all, if none is. Saving is against static choices of equal score; since it is chosen by the tune
        split, what it saves on the test split is a fair report.
        """
        least = self._tune_score(self.chosen) if self.chosen is not None else 0.0
        candidates = [(p, p.tuned) for p in self.policies if p.per_sample and p.tuned is not None]
        good = [(p, tuned) for p, tuned in candidates if tuned.score.high >= least] or candidates
        return max(good, key=lambda pair: pair[1].saving_static.mean, default=(None, None))[0]

    def _tune_score(self, index: int) -> float:
        rows = self.table.rows("tune")
        scores = np.asarray(self.table.score[rows if len(rows) else self.rows, index])
        return float(scores.mean(dtype=np.float64))

    def curves(self) -> dict[str, Curve]:
        """The whole trade-offs of per-sample policies that keep them: those that close most of the gap."""
        known = [policy for policy in self.policies if policy.per_sample and policy.curve is not None]
        shown = sorted(known, key=lambda policy: -policy.gap)[:CURVES]
        return {policy.name: _line(policy.name, policy.curve) for policy in known if policy in shown}

    def command(self, command: str) -> str:
        """What to type to run `command` on this run."""
        name, _, options = command.partition(" ")
        return f"{self.run.command(name)} {options}".rstrip()

    def score(self, index: int) -> Interval:
        """Score of a configuration, with its interval."""
        row = self.configs.iloc[index]
        return Interval(float(row["score"]), float(row["low"]), float(row["high"]))

    def marks(self) -> list[Mark]:
        """Full, chosen, policies and oracles in the plane of cost and score."""
        full = self.table.full
        marks = [Mark("full configuration", "full", self.score(full), self.full_flops)]
        if self.chosen is not None and self.chosen != full:
            label = f"chosen: {labels.configuration(self.table.configs, self.chosen)}"
            marks.append(Mark(label, "chosen", self.score(self.chosen), self.table.cost_flops[self.chosen]))
        judged = [*self.policies, *self.oracles]
        return marks + [
            Mark(j.name, j.kind, j.evaluation.score, j.evaluation.cost_flops.mean) for j in judged
        ]


def _line(label: str, frame: pd.DataFrame | None) -> Curve:
    """The members that no other one dominates: the others are no choice."""
    assert frame is not None
    kept = front(frame["cost_flops"], frame["score"])
    columns = ("cost_flops", "score", "score_low", "score_high")
    return Curve(label, *(frame[name].to_numpy(np.float64)[kept] for name in columns))


def gather(run: Run) -> Findings:
    """Read a run folder. FileError naming `adap sweep` if it has no table; other pieces may be missing."""
    table = OutcomeTable.load(run.require("table"))
    if not len(table.rows(SPLIT)):
        raise FileError(
            f"{run.table}: no {SPLIT} samples to report on",
            "adap sweep --split 12:4:8:20 gives every split some",
        )
    warnings = _trained_on(table)
    rivals = baselines(table, SPLIT)
    findings = Findings(
        run=run,
        table=table,
        configs=tables.configurations(table, rivals.statics, SPLIT),
        search=_search(run, table, warnings),
        policies=judge_all(run, table, SPLIT, warnings),
        oracles=[Judged(oracle.name, "oracle", oracle) for oracle in rivals.oracles],
        provenance=run.provenance(),
        warnings=warnings,
        bench=_bench(run, table, warnings),
        diagnosis=_diagnosis(run, table, warnings),
        field_found=read_field(run, table, warnings),
    )
    findings.orders.extend(_orders(findings))
    name = partial(labels.configuration, table.configs)
    warnings.extend(f"{labels.readable(text)}." for o in findings.orders if (text := o.warning(name)))
    return findings


def _trained_on(table: OutcomeTable) -> list[str]:
    """A sentence if some samples are images that the checkpoint was trained on."""
    data = table.meta.get("data")
    seen = data.get("trained_on") if isinstance(data, dict) else None
    if not isinstance(seen, dict) or not seen:
        return []
    counts = ", ".join(f"{split} {labels.number(int(count))}" for split, count in seen.items())
    some, total = labels.number(sum(map(int, seen.values()))), labels.number(table.n_samples)
    return [
        f"{some} of {total} samples are images that the checkpoint was trained on ({counts}): "
        "their scores are too high."
    ]


def _bench(run: Run, table: OutcomeTable, warnings: list[str]) -> "Record | None":
    from adapcli.measure.record import Record

    if not run.has("bench"):
        return None
    record = Record.load(run.bench)
    if record.checkpoint["fingerprint"] != table.meta.get("fingerprints", {}).get("checkpoint"):
        warnings.append("The bench was made with another checkpoint than the table: run adap bench again.")
        return None
    return record


def _diagnosis(run: Run, table: OutcomeTable, warnings: list[str]) -> "Diagnosis | None":
    from adapcli.evaluation.diagnosis.check import Diagnosis

    if not run.has("diagnosis"):
        return None
    found = Diagnosis.load(run.diagnosis)
    if found.checkpoint["fingerprint"] != table.meta.get("fingerprints", {}).get("checkpoint"):
        warnings.append("The diagnosis is of another checkpoint than the table: run adap diagnose again.")
        return None
    return found


def _orders(findings: Findings) -> "list[Comparison]":
    """One per condition; none where rows do not say what was measured, or nothing was."""
    from adapcli.measure.order import compare
    from policies.table import latency

    table = findings.table
    if table.latency is None or not set(latency.COLUMNS) <= set(table.latency.columns):
        return []
    latency.check(table.latency, table.n_configs, f"{findings.run.table}: latency.csv")
    front = {*findings.static_front, table.full}
    return [compare(table, condition, front) for condition in latency.conditions(table.latency)]


def _search(run: Run, table: OutcomeTable, warnings: list[str]) -> "SearchResult | None":
    from adapcli.search import SearchResult

    if not run.has("search"):
        return None
    result = SearchResult.load(run.search)
    if result.fingerprints != table.meta.get("fingerprints", {}):
        warnings.append(
            "The search was made on another table than the one in this run: run adap search again."
        )
        return None
    return result
