"""What a temperature and class biases per configuration changed."""

import pandas as pd

from adapcli.evaluation.effect import Effect
from adapcli.report import labels
from adapcli.report.document import Block, Drawing, Grid, Text
from adapcli.report.figures.recalibration import recalibration
from adapcli.report.findings import Findings
from adapcli.report.units import percent, points, significant


def blocks(findings: Findings) -> list[Block]:
    """Accuracy and calibration error before and after; nothing for a table without a recalibration."""
    table = findings.table
    if table.recalibration is None:
        return []
    effect = Effect.of_meta(table.meta, table.n_configs, str(findings.run.table))
    told: list[Block] = [Text(_words(findings))]
    if effect is None:
        return told
    frame = _frame(findings, effect)
    return [
        *told,
        Text(_outcome(effect, frame)),
        _drawing(findings, effect, frame),
        _grid(findings, effect, frame),
    ]


def _words(findings: Findings) -> str:
    facts = findings.table.meta.get("recalibration")
    count = facts.get("fit_samples") if isinstance(facts, dict) else None
    fitted = (
        f"were fitted on {labels.number(count)} fit samples"
        if isinstance(count, int)
        else "are another run's"
    )
    return (
        f"Answers are calibrated: a temperature and a bias per class for each configuration {fitted}. All "
        "that is shown here, of static choices, oracles and policies alike, is of calibrated answers, and a "
        "policy takes the calibration along. It folds into the last linear layer of the head, at no cost."
    )


def _frame(findings: Findings, effect: Effect) -> pd.DataFrame:
    """A row per configuration, as it is in the csv."""
    table = findings.table
    gains = [effect.gain(i) for i in range(table.n_configs)]
    frame = pd.DataFrame(
        {
            "configuration": [labels.configuration(table.configs, i) for i in range(table.n_configs)],
            "cost_flops": table.cost_flops,
            "gain": [gain.mean for gain in gains],
            "low": [gain.low for gain in gains],
            "high": [gain.high for gain in gains],
        }
    )
    return frame.assign(**effect.columns)


def _outcome(effect: Effect, frame: pd.DataFrame) -> str:
    better, worse = int((frame["low"] > 0).sum()), int((frame["high"] < 0).sum())
    errors = [percent(float(frame[f"ece_{when}"].mean())) for when in ("before", "after")]
    nll = [significant(float(frame[f"nll_{when}"].mean())) for when in ("before", "after")]
    count, gain = labels.number(effect.samples), points(frame["gain"].mean())
    return (
        f"On {count} {effect.split} samples accuracy gains {gain} points in the mean over "
        f"{labels.plural(len(frame), 'configuration')}. By intervals of 95 % {better} gain and {worse} lose; "
        "about 1 in 20 would leave 0 out by chance. Mean calibration error (ECE) "
        f"{errors[0]} before, {errors[1]} after; mean negative log-likelihood {nll[0]} before, "
        f"{nll[1]} after."
    )


def _drawing(findings: Findings, effect: Effect, frame: pd.DataFrame) -> Drawing:
    least, most = points(frame["gain"].min()), points(frame["gain"].max())
    return Drawing(
        "recalibration",
        lambda layout: recalibration(frame, unit=findings.unit, layout=layout),
        f"Accuracy gained by calibration, {least} to {most} points, and calibration error before and after",
        "Left: accuracy after less accuracy before, with paired 95 % intervals. Right: expected calibration "
        f"error. A point per configuration, on {labels.number(effect.samples)} {effect.split} samples.",
    )


def _grid(findings: Findings, effect: Effect, frame: pd.DataFrame) -> Grid:
    """The cheapest, the full, the worst and the best; the csv holds all."""
    gain = frame["gain"]
    shown = [
        ("cheapest", findings.cheapest),
        ("full", findings.table.full),
        ("gains least", int(gain.argmin())),
        ("gains most", int(gain.argmax())),
    ]
    return Grid(
        "recalibration",
        frame,
        [
            "",
            "configuration",
            "accuracy before",
            "after",
            "gain, points",
            "95 % interval",
            "ECE before",
            "after",
        ],
        [_row(name, frame.iloc[i]) for name, i in shown],
        f"What calibration changed, on {labels.number(effect.samples)} {effect.split} samples; least and "
        "most are picked by these very numbers",
        numeric=6,
    )


def _row(name: str, row: "pd.Series[float]") -> list[str]:
    return [
        name,
        str(row["configuration"]),
        percent(row["accuracy_before"]),
        percent(row["accuracy_after"]),
        points(row["gain"]),
        f"{points(row['low'])} to {points(row['high'])}",
        percent(row["ece_before"]),
        percent(row["ece_after"]),
    ]
