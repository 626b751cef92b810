"""Which member of a field to take: decided on tune, simplest first, learning by trial only where it wins."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from policies import pareto
from policies.base import FloatArray
from policies.curves import Yardstick, interval
from policies.curves.gap import least_cost
from policies.errors import UsageError
from policies.samples import FEW
from policies.statistics import Interval
from policies.texts import count

if TYPE_CHECKING:
    from policies.field.member import Member, Request


@dataclass(frozen=True, eq=False)
class Value:
    """What an entrant gives of what was asked for, per draw of the tune samples (1 + resamples,).

    Larger is better. rank: 0 the simplest. met: whether the objective is satisfied on tune, or the promise
    certified. surely: whether it is so on the 95 % interval of few tune samples; of many it is not asked.
    """

    name: str
    draws: FloatArray
    rank: int
    by_trial: bool
    met: bool
    surely: bool = True


@dataclass(frozen=True)
class Compared:
    """One entrant: its value on tune, and how far it is below the recommended one, paired."""

    name: str
    value: Interval
    below: Interval


@dataclass(frozen=True)
class Recommendation:
    """name: of the recommended entrant; best: of the largest value on tune without learning by trial.

    measure: what the values are; reason: sentences for people.
    """

    name: str
    best: str
    measure: str
    reason: tuple[str, ...]
    compared: tuple[Compared, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        content = asdict(self)
        return {**content, "reason": list(self.reason), "compared": list(content["compared"])}


def value_of(member: "Member", yardstick: Yardstick, request: "Request") -> FloatArray:
    """What the objective asks for, of a member's curve on the yardstick's split, larger is better; per draw.

    A drop: the share of the full cost that is saved there; a budget: the score there; a price: the utility;
    each of the best mixture of members and statics, where the kept policy is a single member. A promise, or
    few samples to tune on: what the kept policy itself gives.
    """
    asked, curve, full = request.objective, member.curves[yardstick.split], yardstick.full_cost_flops
    few = yardstick.n < FEW and asked.lambda_ is None
    if few and asked.flops_target is not None:
        return np.asarray(curve.score[:, member.chosen])
    if request.promise is not None or few:
        return np.asarray(1 - curve.cost_flops[:, member.chosen] / full)
    most = asked.same_answer if asked.max_drop is None else asked.max_drop
    if most is not None:  # of the agreement, the full configuration's score is 1
        cost = least_cost([yardstick.statics, curve], yardstick.full_score[:, None] - most)
        return np.asarray(1 - cost[:, 0] / full)
    score = np.concatenate([yardstick.statics.score, curve.score], axis=1)
    share = np.concatenate([yardstick.statics.cost_flops, curve.cost_flops], axis=1) / full
    if asked.lambda_ is not None:
        return np.asarray((score - asked.lambda_ * share).max(axis=1))
    budget = asked.flops_target
    assert budget is not None
    return np.array([pareto.score_at(s, v, budget) for s, v in zip(share, score, strict=True)])


def measure_text(request: "Request", n: int = FEW) -> str:
    """What values on n tune samples are, in words."""
    asked = request.objective
    if request.promise is not None:
        return "of the full cost saved by what is guaranteed"
    most = "most " if n < FEW else ""  # of the kept policy itself, not read from its curve
    if asked.max_drop is not None:
        unit = "point" if asked.max_drop == 0.01 else "points"
        return f"of the full cost saved at {most}{100 * asked.max_drop:g} {unit} below full"
    if asked.same_answer is not None:
        return f"of the full cost saved with at most {100 * asked.same_answer:g} % of other answers than full"
    if asked.lambda_ is not None:
        return f"score less {asked.lambda_:g} x cost"
    return f"score at {most}{asked.flops_target:g} of the full cost"


def recommend(values: Sequence[Value], request: "Request", n: int) -> Recommendation:
    """The simplest of those that cannot be told from the best; of equally simple ones the best.

    Told apart means: the 95 % interval of the paired difference on the n tune samples leaves out 0. Learning
    by trial is recommended only where it is above the best of the others in this sense. Those that met the
    objective go before those that did not, and those that surely did first. UsageError without values.
    """
    if not values:
        raise UsageError("nothing to recommend from an empty field")
    met = [value for value in values if value.met] or list(values)
    eligible = [value for value in met if value.surely] or met
    plain = [value for value in eligible if not value.by_trial] or eligible
    best = max(plain, key=lambda value: value.draws[0])
    near = [value for value in plain if not _below(value, best).low > 0]
    chosen = min(near, key=lambda value: (value.rank, -value.draws[0]))
    winners = [value for value in eligible if value.by_trial and _below(best, value).low > 0]
    taken = max(winners, key=lambda value: value.draws[0], default=chosen)
    compared = tuple(Compared(v.name, interval(v.draws), _below(v, taken)) for v in values)
    words = _Words(measure_text(request, n), n)
    reason = (
        *words.chosen(taken, best, plain),
        *words.by_trial(taken, best, eligible),
        *words.few(taken, request),
    )
    return Recommendation(taken.name, best.name, words.measure, reason, compared)


def _below(value: Value, other: Value) -> Interval:
    return interval(other.draws - value.draws)


@dataclass(frozen=True)
class _Words:
    """Reasons as sentences."""

    measure: str
    n: int

    def chosen(self, taken: Value, best: Value, plain: Sequence[Value]) -> list[str]:
        """Why this one, against those that need no trial."""
        found = interval(taken.draws)
        start = f"{taken.name}: {_percent(found)} {self.measure}, on {count(self.n, 'tune sample')}"
        if taken.by_trial:
            more = _difference(_below(best, taken))
            return [f"{start}; {more} more than {best.name}, the best without learning by trial."]
        simpler = [value for value in plain if value.rank < taken.rank]
        if taken is not best:
            less = _difference(_below(taken, best))
            lines = [f"{start}. {best.name} is not clearly better: {less} more, and it is less simple."]
        else:
            lines = [f"{start}: the most of {len(plain)} that need no learning by trial."]
        if simpler:
            near = max(simpler, key=lambda value: value.draws[0])
            less = _difference(_below(near, taken))
            lines.append(f"Simpler ones give less: the best of them, {near.name}, by {less}.")
        return lines

    def few(self, taken: Value, request: "Request") -> list[str]:
        """What so few samples to choose on mean; nothing where there are enough."""
        if self.n >= FEW or request.promise is not None or request.objective.lambda_ is not None:
            return []
        if taken.surely:
            told = "only what keeps the target on the whole 95 % interval there is recommended"
        else:
            told = "nothing keeps the target on the whole 95 % interval there, so this may miss it"
        return [f"{count(self.n, 'tune sample')} {'is' if self.n == 1 else 'are'} few: {told}."]

    def by_trial(self, taken: Value, best: Value, eligible: Sequence[Value]) -> list[str]:
        """Why not one that learns by trial, or which others do not win."""
        others = [value for value in eligible if value.by_trial and value is not taken]
        if not others or taken.by_trial:
            return []
        near = max(others, key=lambda value: value.draws[0])
        difference = interval(near.draws - best.draws)
        return [
            f"Learning by trial does not win: the best of it, {near.name}, gives {_signed(difference)} "
            f"against {best.name}."
        ]


def _percent(found: Interval) -> str:
    return f"{100 * found.mean:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _difference(found: Interval) -> str:
    return f"{100 * found.mean:.2f} points ({100 * found.low:.2f} to {100 * found.high:.2f})"


def _signed(found: Interval) -> str:
    return f"{100 * found.mean:+.2f} points ({100 * found.low:+.2f} to {100 * found.high:+.2f})"
