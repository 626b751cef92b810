"""What came of a field: every entrant's curve and worth on test, and the recommendation from tune."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from policies.base import FloatArray, Policy
from policies.baselines import HindsightOracle, SameAnswerOracle
from policies.curves import DROPS, TradeOff, Worth, Yardstick, curve_of, mean_of, told
from policies.evaluate import Evaluation, evaluate, met
from policies.field.entrant import Entrant
from policies.field.member import Member, Request
from policies.field.recommendation import Recommendation, Value, recommend, value_of
from policies.objective import Objective
from policies.shown import short_repr
from policies.table import OutcomeTable
from policies.texts import count

SCHEMA_VERSION = 1
REPORTED = "test"


@dataclass(frozen=True, eq=False)
class Entry:
    """An entrant with its members, one per seed."""

    __repr__ = short_repr

    entrant: Entrant
    members: tuple[Member, ...]

    def worths(self, yardstick: Yardstick) -> list[Worth]:
        """One per seed, on the yardstick's split."""
        return [yardstick.worth(member.curves[yardstick.split]) for member in self.members]

    def values(self, yardstick: Yardstick, request: Request) -> list[FloatArray]:
        """What was asked for, larger is better, per seed and draw."""
        return [value_of(member, yardstick, request) for member in self.members]

    def kept(self, yardstick: Yardstick, request: Request) -> Member:
        """The member of the best seed on the tune split."""
        values = [draws[0] for draws in self.values(yardstick, request)]
        met, surely = ([getattr(member, at) for member in self.members] for at in ("met", "surely"))
        return self.members[int(np.lexsort((values, surely, met))[-1])]


@dataclass(frozen=True, eq=False)
class Field:
    """entries: simplest first; kept: per name the member to keep; worths: per name one per seed, on test.

    oracles: what hindsight of answers, and of labels, is worth; skipped: name -> why it was left out.
    evaluations: of the kept policies on test.
    """

    __repr__ = short_repr

    request: Request
    yardstick: Yardstick
    tuning: Yardstick
    entries: tuple[Entry, ...]
    kept: Mapping[str, Member]
    worths: Mapping[str, Sequence[Worth]]
    oracles: Mapping[str, Worth]
    skipped: Mapping[str, str]
    evaluations: Mapping[str, Evaluation]
    recommendation: Recommendation

    @classmethod
    def of(
        cls,
        entries: Sequence[Entry],
        skipped: Mapping[str, str],
        table: OutcomeTable,
        request: Request,
        yardsticks: Mapping[str, Yardstick],
    ) -> "Field":
        """Compare trained entries on tune, then judge them on test."""
        tuning, yardstick = yardsticks["tune"], yardsticks[REPORTED]
        kept = {entry.entrant.name: entry.kept(tuning, request) for entry in entries}
        oracles: tuple[Policy, ...] = (SameAnswerOracle(), HindsightOracle())[: 2 if table.labelled else 1]
        return cls(
            request=request,
            yardstick=yardstick,
            tuning=tuning,
            entries=tuple(entries),
            kept=kept,
            worths={entry.entrant.name: entry.worths(yardstick) for entry in entries},
            oracles={
                oracle.name: yardstick.worth(curve_of([oracle], table, REPORTED, yardstick.resampling))
                for oracle in oracles
            },
            skipped=dict(skipped),
            evaluations={
                name: evaluate(member.policy, table, REPORTED, resamples=request.resamples, seed=request.seed)
                for name, member in kept.items()
            },
            recommendation=recommend(
                [
                    Value(
                        entry.entrant.name,
                        np.mean(entry.values(tuning, request), axis=0),
                        entry.entrant.rank,
                        entry.entrant.by_trial,
                        kept[entry.entrant.name].met,
                        kept[entry.entrant.name].surely,
                    )
                    for entry in entries
                ],
                request,
                tuning.n,
            ),
        )

    @cached_property
    def mean_worths(self) -> dict[str, Worth]:
        """Per name the mean over seeds, draw by draw."""
        return {name: mean_of(worths, name) for name, worths in self.worths.items()}

    def trade_off(self, name: str) -> TradeOff:
        """Of the kept member, on test."""
        member = self.kept[name]
        entry = next(entry for entry in self.entries if entry.entrant.name == name)
        worth = self.worths[name][entry.members.index(member)]
        return TradeOff(self.yardstick, member.curves[REPORTED], worth, member.chosen)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: field.json."""
        chosen = self.recommendation.name
        return {
            "schema_version": SCHEMA_VERSION,
            "request": self.request.to_dict(),
            "split": self.yardstick.split,
            "n": self.yardstick.n,
            "n_tune": self.tuning.n,
            "full_score": float(self.yardstick.full_score[0]),
            "full_cost_flops": self.yardstick.full_cost_flops,
            "entries": [self._entry(entry) for entry in self.entries],
            "oracles": [
                {"name": name, "attainable": False, **worth.to_dict()} for name, worth in self.oracles.items()
            ],
            "skipped": [{"name": name, "reason": reason} for name, reason in self.skipped.items()],
            "recommendation": {
                **self.recommendation.to_dict(),
                "on_test": _on_test(self.evaluations[chosen], self.kept[chosen].trained.objective),
                "test": _shown(self.evaluations[chosen]),
                "against": self._against(chosen),
            },
        }

    def _entry(self, entry: Entry) -> dict[str, Any]:
        name = entry.entrant.name
        kept, worths = self.kept[name], self.worths[name]
        return {
            "name": name,
            "algo": entry.entrant.algo,
            "env": entry.entrant.env,
            "options": dict(entry.entrant.options),
            "by_trial": entry.entrant.by_trial,
            "seconds": float(np.mean([member.seconds for member in entry.members])),
            "met": kept.met,
            "certified": None if kept.certificate is None else bool(kept.certificate.get("certified")),
            "kept_seed": kept.seed,
            **self.mean_worths[name].to_dict(),
            "seeds": [
                {"seed": member.seed, "seconds": member.seconds, **worth.to_dict()}
                for member, worth in zip(entry.members, worths, strict=True)
            ],
            "spread": _spread(worths),
            "test": _shown(self.evaluations[name]),
        }

    def _against(self, chosen: str) -> list[dict[str, Any]]:
        """What the recommended one is worth on test beyond each other, paired."""
        own = self.mean_worths[chosen]
        return [
            {"name": name, **own.minus(worth).to_dict()}
            for name, worth in self.mean_worths.items()
            if name != chosen
        ]

    def frame(self) -> pd.DataFrame:
        """One row per entry and oracle: field.csv. Shares; _low and _high end 95 % intervals."""
        rows = [
            _row(name, worth, self.worths[name], self.entries[i].members)
            for i, (name, worth) in enumerate(self.mean_worths.items())
        ]
        rows += [_row(name, worth, [worth], ()) for name, worth in self.oracles.items()]
        return pd.DataFrame(rows).assign(n=self.yardstick.n, split=self.yardstick.split)


def _spread(worths: Sequence[Worth]) -> dict[str, Any] | None:
    """Over seeds: mean, worst, best and standard deviation of the gap and of the saving at each drop."""
    if len(worths) < 2:
        return None
    parts = {"gap": np.array([worth.gap[0] for worth in worths])}
    parts |= {
        f"saving_full_{drop:g}": np.array([worth.saving_full[0, i] for worth in worths])
        for i, drop in enumerate(DROPS)
    }
    return {name: _over_seeds(values) for name, values in parts.items()}


def _over_seeds(values: FloatArray) -> dict[str, float] | None:
    if not np.isfinite(values).all():
        return None
    return {
        "mean": float(values.mean()),
        "worst": float(values.min()),
        "best": float(values.max()),
        "sd": float(values.std(ddof=1)),
    }


def _shown(evaluation: Evaluation) -> dict[str, Any]:
    """A kept policy on test."""
    content = evaluation.to_dict()
    names = ("n", "score", "score_difference", "cost_flops", "saving_full", "saving_static", "agreement")
    return {name: content[name] for name in names}


def _on_test(evaluation: Evaluation, asked: Objective) -> str:
    """What the test samples say of the recommended policy, in words."""
    drop, saving = evaluation.score_difference, evaluation.saving_full
    missed = met(asked, evaluation) is False
    return (
        f"On {count(evaluation.n, 'test sample')} it saves {100 * saving.mean:.1f} % of the full cost "
        f"({100 * saving.low:.1f} to {100 * saving.high:.1f}) at {100 * drop.mean:+.2f} points "
        f"({100 * drop.low:+.2f} to {100 * drop.high:+.2f})."
        f"{' That misses what was asked for, which it kept on the tune samples.' if missed else ''}"
    )


def _row(name: str, worth: Worth, seeds: Sequence[Worth], members: Sequence[Member]) -> dict[str, Any]:
    parts = {"gap": worth.gap}
    for i, drop in enumerate(DROPS):
        parts[f"saving_full_{drop:g}"] = worth.saving_full[:, i]
        parts[f"saving_static_{drop:g}"] = worth.saving_static[:, i]
    row: dict[str, Any] = {"name": name, "attainable": bool(members), "seeds": len(seeds)}
    for part, draws in parts.items():
        found = told(draws) or dict.fromkeys(("mean", "low", "high"))
        row |= {part: found["mean"], f"{part}_low": found["low"], f"{part}_high": found["high"]}
    gaps = [each.gap[0] for each in seeds]
    row |= {"gap_worst_seed": min(gaps), "gap_best_seed": max(gaps)}
    row["seconds"] = float(np.mean([member.seconds for member in members])) if members else None
    return row
