"""Checks that an outcome table decides: no model is run.

N samples, C configurations.
"""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adapcli.errors import UsageError
from adapcli.evaluation.calibration import Reliability, reliability
from adapcli.evaluation.diagnosis.check import Check, percent
from policies.statistics import Interval, normal_interval, wilson
from policies.table import OutcomeTable

SPLIT = "test"
KEPT = 0.5
"""Part of what the full configuration knows beyond guessing that the fewest tokens must keep."""
CONFIDENCE = 0.95
ECE_LIMIT = 0.05

Floats = NDArray[np.float64]


def reported_rows(table: OutcomeTable) -> NDArray[np.intp]:
    """The test samples. UsageError if there are fewer than 2, or if the table is of no classification."""
    rows = table.rows(SPLIT)
    if len(rows) < 2:
        raise UsageError(f"{len(rows)} {SPLIT} samples: nothing can be told", "score more samples")
    if table.prediction is None or "confidence" not in table.signal_names:
        raise UsageError("the table holds no classes or no confidences: only classifiers are diagnosed")
    return np.asarray(rows, np.intp)


def low_tokens(table: OutcomeTable) -> Check:
    """Does accuracy collapse with the fewest tokens? At the largest width and depth of the table."""
    rows = reported_rows(table)
    frame, name = table.configs, "low tokens"
    best = frame[(frame["width"] == frame["width"].max()) & (frame["depth"] == frame["depth"].max())]
    best = best.sort_values("tokens")
    hits = {int(t): np.asarray(table.score[rows, i], np.float64) for i, t in best["tokens"].items()}
    few, many = min(hits), max(hits)
    chance = _chance(table, rows)
    limit = (
        f"warns if t={few} surely keeps less than {percent(KEPT, 0)} of what t={many} knows beyond guessing"
    )
    accuracy = {str(t): float(hit.mean()) for t, hit in hits.items()}
    numbers: dict[str, Any] = {"accuracy": accuracy, "chance": chance, "samples": len(rows)}
    if wilson(float(hits[many].sum()), len(rows)).low <= chance:
        told = f"t={many} itself is at chance: {percent(accuracy[str(many)])}, guessing {percent(chance)}"
        return Check(name, True, told, limit, {**numbers, "kept": None})
    kept = (accuracy[str(few)] - chance) / (accuracy[str(many)] - chance)
    # Linear in the hits, so that its interval is that of a mean: negative where less than KEPT is kept.
    spare = normal_interval(hits[few] - chance - KEPT * (hits[many] - chance), CONFIDENCE)
    told = (
        f"t={few} {percent(accuracy[str(few)])}, t={many} {percent(accuracy[str(many)])}: "
        f"keeps {percent(max(kept, 0.0), 0)} of what is beyond guessing ({percent(chance)})"
    )
    return Check(name, spare.high < 0, told, limit, {**numbers, "kept": kept})


def _chance(table: OutcomeTable, rows: NDArray[np.intp]) -> float:
    """Accuracy of always giving the most frequent class."""
    counts = table.samples["target"].iloc[rows].value_counts()
    return float(counts.iloc[0] / len(rows))


def widths(table: OutcomeTable) -> Check:
    """Does a wider configuration lose to a narrower one of the same tokens and depth?"""
    rows, frame = reported_rows(table), table.configs
    score = np.asarray(table.score[rows], np.float64)
    pairs = [
        (narrow, wide)
        for _, same in frame.groupby(["tokens", "depth"])
        for narrow, wide in combinations(same.sort_values("width").index, 2)
    ]
    limit = (
        "warns if a wider one surely loses: paired interval below 0, at 95 % for all pairs together "
        "(Bonferroni)"
    )
    numbers: dict[str, Any] = {"pairs": len(pairs), "losing": 0, "worst": None, "samples": len(rows)}
    if not pairs:
        return Check("widths", False, "one width: nothing to compare", limit, numbers)
    level = 1 - (1 - CONFIDENCE) / len(pairs)
    gains = [normal_interval(score[:, wide] - score[:, narrow], level) for narrow, wide in pairs]
    losing = sum(gain.high < 0 for gain in gains)
    worst = min(range(len(pairs)), key=lambda i: (gains[i].high >= 0, gains[i].mean))
    found = _pair(table, *pairs[worst], gains[worst])
    numbers |= {"losing": int(losing), "worst": found}
    told = (
        f"{losing} of {len(pairs)} pairs lose; worst w={found['wider']} against w={found['narrower']} "
        f"at t={found['tokens']}, l={found['depth']}: {_gain(gains[worst])}"
    )
    return Check("widths", losing > 0, told, limit, numbers)


def _pair(table: OutcomeTable, narrow: int, wide: int, gain: Interval) -> dict[str, Any]:
    frame = table.configs
    where = {name: int(frame[name].iloc[wide]) for name in ("tokens", "depth")}
    compared = {"wider": int(frame["width"].iloc[wide]), "narrower": int(frame["width"].iloc[narrow])}
    return {**where, **compared, "gain": gain.mean, "low": gain.low, "high": gain.high}


def _gain(gain: Interval) -> str:
    return f"{100 * gain.mean:+.1f} points ({100 * gain.low:+.1f} .. {100 * gain.high:+.1f})"


def calibration(table: OutcomeTable) -> Check:
    """Does every readout's confidence mean what it says?"""
    rows, frame = reported_rows(table), table.configs
    confidence = np.clip(np.asarray(table.signal("confidence")[rows], np.float64), 0, 1)
    curves = [
        reliability(confidence[:, i], np.asarray(table.score[rows, i], np.float64)) for i in range(len(frame))
    ]
    errors = np.array([curve.calibration_error for curve in curves])
    limits = np.array([ECE_LIMIT + chance_error(curve) for curve in curves])
    over = errors > limits
    right = np.asarray(table.score[rows]).mean(0, dtype=np.float64)
    readouts = frame[["tokens", "width", "depth"]].assign(ece=errors, says=confidence.mean(0), right=right)
    limit = (
        f"warns where the ECE is above {percent(ECE_LIMIT, 0)} by more than chance adds in so many samples: "
        "a threshold on a confidence is then off by as much"
    )
    off, listed = int(over.sum()), readouts.to_dict("records")
    told = f"{off} of {len(frame)} readouts off; worst {_worst(readouts)}; full {percent(errors[table.full])}"
    told += "; the table's answers are calibrated" if table.recalibration is not None else ""
    numbers = {"off": off, "readouts": listed, "samples": len(rows)}
    return Check("calibration", bool(over.any()), told, limit, numbers)


def _worst(readouts: pd.DataFrame) -> str:
    row = readouts.to_dict("records")[int(readouts["ece"].to_numpy().argmax())]
    return (
        f"ECE {percent(row['ece'])} at t={row['tokens']}, w={row['width']}, l={row['depth']} "
        f"(says {percent(row['says'])}, is right {percent(row['right'])})"
    )


def chance_error(curve: Reliability) -> float:
    """The calibration error that perfect confidences exceed in few samples of this size: mean + 2 deviations.

    The gap of a bin of n samples is then normal with variance p (1 - p) / n; bins are independent.
    """
    filled = curve.count > 0
    count, p = curve.count[filled], curve.confidence[filled]
    share = count / count.sum()
    deviation = np.sqrt(p * (1 - p) / count)
    mean = float((share * deviation).sum() * np.sqrt(2 / np.pi))
    return mean + 2 * float(np.sqrt(((share * deviation) ** 2).sum() * (1 - 2 / np.pi)))
