"""Certificates in words, the same in a terminal and in a report."""

from collections.abc import Sequence

from policies.errors import InfeasibleError
from policies.guarantee.bounds import Bounds
from policies.guarantee.certificate import TESTS, Certificate
from policies.guarantee.planning import needed
from policies.guarantee.promise import Promise
from policies.guarantee.sequence import Candidate, Tested


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
    likeness = f"on samples drawn like the {c.n:,} calibration samples".replace(",", " ")
    if c.certified:
        first = f"Certified with {100 * c.confidence:g} % confidence: {wish}, {likeness}."
    else:
        first = (
            f"Not certified: that {wish} does not show with {100 * c.confidence:g} % confidence {likeness}."
        )
    return [
        first,
        f"Observed there: {100 * c.observed:.2f} {c.unit}, upper bound {100 * c.upper_bound:.2f}; "
        f"p = {c.p_value:.2g}, {TESTS[c.test]}; at {100 * c.saving:.1f} % less than the full cost.",
        f"Candidate {c.position} of {c.candidates}, tested once each, from the full configuration downwards.",
    ]


def too_few(
    first: Tested,
    sequence: Sequence[Candidate],
    bounds: Bounds,
    promise: Promise,
    full_cost_flops: float,
) -> InfeasibleError:
    """The error if not even the first candidate is certified: what these samples allow, and what it takes."""
    n, limit = len(first.losses), promise.limit
    tightest = _rounded_up(bounds.upper(first.losses))
    saving = 1 - first.cost_flops.mean() / full_cost_flops
    wish = _points(limit) if promise.loss == "score" else f"{100 * limit:g} % of other answers"
    option = "--max-drop" if promise.loss == "score" else "--same-answer"
    message = (
        f"{n} calibration samples do not certify {wish} with {100 * promise.confidence:g} % "
        f"confidence; the tightest limit they certify is {100 * tightest:g}, saving {100 * saving:.1f} %"
    )
    enough = _fewest(sequence, promise, bounds)
    if enough is None:
        message += f"; no candidate is likely to lose less than {100 * limit:g}"
    elif enough > n:
        message += f"; {100 * limit:g} takes about {_rough(enough)} samples"
    options = [f"{option} {tightest:g}"] + ["more calibration samples"] * (enough is not None)
    if promise.loss == "score":
        options.append(f"--same-answer {limit:g}, which needs samples but no labels")
    return InfeasibleError(message, f"{', or '.join(options)}; --best-effort keeps it without a guarantee")


def _fewest(sequence: Sequence[Candidate], promise: Promise, bounds: Bounds) -> int | None:
    """Samples from which the likeliest of the candidates would be certified."""
    below = [c for c in sequence if c.loss < promise.limit]
    if not below:
        return None
    best = min(below, key=lambda c: (c.square - c.loss**2) / (promise.limit - c.loss) ** 2)
    return needed(promise.limit, best.loss, best.square, confidence=promise.confidence, kind=bounds.kind)


def _rounded_up(limit: float) -> float:
    """To the next hundredth of a point."""
    return min(1.0, -(-(limit + 1e-9) * 10_000 // 1) / 10_000)


def _rough(count: int) -> str:
    """Two significant digits."""
    return f"{float(f'{count:.1e}'):,.0f}".replace(",", " ")
