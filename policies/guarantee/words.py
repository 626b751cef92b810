"""Certificates in words, the same in a terminal and in a report."""

from collections.abc import Sequence
from typing import NamedTuple

from policies.base import split_rows
from policies.errors import InfeasibleError
from policies.guarantee.bounds import Bounds
from policies.guarantee.certificate import TESTS, Certificate
from policies.guarantee.planning import needed
from policies.guarantee.promise import LARGEST, Promise
from policies.guarantee.sequence import Candidate
from policies.samples import split_option
from policies.table import OutcomeTable
from policies.texts import count, percent

SHOWN = 2
"""Limits shown beside the tightest."""


def promised(promise: Promise, scored: str = "score") -> str:
    """What a promise says. scored: what the score is called."""
    if promise.loss == "answer":
        return f"less than {100 * promise.limit:g} % of the answers differ from the full configuration's"
    return f"{scored} is less than {_points(promise.limit)} below the full configuration's"


def _points(share: float) -> str:
    return "1 point" if share == 0.01 else f"{100 * share:g} points"


def told(certificate: Certificate, scored: str = "score") -> list[str]:
    """The promise, whether it holds, and what the samples said, a sentence each."""
    c = certificate
    wish = promised(Promise(c.limit, c.confidence, c.loss), scored)
    likeness = f"on samples drawn like the {count(c.n, 'calibration sample')}"
    lost = "a loss of " if c.loss == "score" else ""
    if c.certified:
        first = f"Certified with {100 * c.confidence:g} % confidence: {wish}, {likeness}."
    else:
        first = (
            f"Not certified: that {wish} does not show with {100 * c.confidence:g} % confidence {likeness}."
        )
    return [
        first,
        f"Observed there: {lost}{100 * c.observed:.2f} {c.unit}, upper bound {100 * c.upper_bound:.2f}; "
        f"p = {c.p_value:.2g}, {TESTS[c.test]}; at {100 * c.saving:.1f} % less than the full cost.",
        f"Candidate {c.position} of {c.candidates}, tested once each, from the full configuration downwards.",
    ]


class Alternative(NamedTuple):
    """A limit that is certified in place of a refused one, and the share of the full cost it would save."""

    limit: float
    saving: float


def too_few(
    table: OutcomeTable, sequence: Sequence[Candidate], promise: Promise, certain: Sequence[Alternative]
) -> InfeasibleError:
    """The error if not even the first candidate is certified: what these samples allow, and what it takes."""
    n, limit, bounds = len(split_rows(table, "calibration")), promise.limit, promise.bounds(table)
    wish = _points(limit) if promise.loss == "score" else f"{100 * limit:g} % of other answers"
    option = "--max-drop" if promise.loss == "score" else "--same-answer"
    message = (
        f"{count(n, 'calibration sample')} do{'es' * (n == 1)} not certify {wish} with "
        f"{100 * promise.confidence:g} % confidence; "
    )
    if certain:
        first, *more = certain
        message += f"the tightest limit they certify is {100 * first.limit:g}, saving {percent(first.saving)}"
        message += "".join(f"; {100 * other.limit:g} saves {percent(other.saving)}" for other in more[:SHOWN])
    else:
        message += f"nor any limit up to {100 * LARGEST:g}"
    options = [f"{option} {certain[0].limit:g}"] if certain else []
    enough = _fewest(sequence, promise, bounds)
    if enough is None:
        message += f"; no candidate is likely to lose less than {100 * limit:g}"
    elif enough > n:
        message += f"; {100 * limit:g} takes about {_rough(enough)} samples"
    if enough is not None:
        wanted = split_option(table, calibration=_two_digits(max(enough, 2 * n)))
        options.append(f"more calibration samples: sweep again with --overwrite {wanted}")
    options.append("--best-effort, which keeps a policy without a guarantee")
    return InfeasibleError(message, "; or ".join(options))


def _fewest(sequence: Sequence[Candidate], promise: Promise, bounds: Bounds) -> int | None:
    """Samples from which the likeliest of the candidates would be certified."""
    below = [c for c in sequence if c.loss < promise.limit]
    if not below:
        return None
    best = min(below, key=lambda c: (c.square - c.loss**2) / (promise.limit - c.loss) ** 2)
    return needed(promise.limit, best.loss, best.square, confidence=promise.confidence, kind=bounds.kind)


def _two_digits(count: int) -> int:
    """Two significant digits."""
    return int(float(f"{count:.1e}"))


def _rough(count: int) -> str:
    return f"{_two_digits(count):,}".replace(",", " ")
