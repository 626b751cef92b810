"""Whether stated confidences hold."""

import numpy as np
import pandas as pd

from adapcli.evaluation.calibration import Reliability, reliability
from adapcli.report import labels
from adapcli.report.document import Drawing, Grid, Section, Text
from adapcli.report.figures.reliability import fewest, reliability_curves
from adapcli.report.findings import Findings
from adapcli.report.sections import recalibration
from adapcli.report.units import percent

SHOWN = 3


def section(findings: Findings) -> Section:
    """Reliability of the cheapest, the chosen (or a middle) and the full configuration."""
    title = "Calibration"
    table = findings.table
    if not table.labelled:
        told = "The samples have no labels: whether stated confidences hold is not known."
        return Section("calibration", title, [Text(told)])
    if "confidence" not in table.signal_names or table.prediction is None:
        return Section("calibration", title, [Text("The table holds no confidences of a classification.")])
    curves = {labels.configuration(table.configs, i): _reliability(findings, i) for i in _shown(findings)}
    drawing = Drawing(
        "calibration",
        lambda layout: reliability_curves(curves, score_name=findings.score_name, layout=layout),
        "Reliability curves: "
        + "; ".join(f"{n}, ECE {percent(c.calibration_error)}" for n, c in curves.items()),
        "Accuracy among samples of equal stated confidence, in 15 bins; on the diagonal a confidence means "
        f"what it says. Bins of fewer than {fewest(len(findings.rows))} samples are not drawn. Grey bars: "
        "share of the samples. ECE, expected calibration error: mean distance from the diagonal over all "
        f"samples. On {findings.n_text}.",
    )
    return Section("calibration", title, [drawing, _grid(findings, curves), *recalibration.blocks(findings)])


def _shown(findings: Findings) -> list[int]:
    cheapest, full = findings.cheapest, findings.table.full
    middle = findings.chosen if findings.chosen not in (None, cheapest, full) else _middle(findings)
    return list(dict.fromkeys(i for i in (cheapest, middle, full) if i is not None))[:SHOWN]


def _middle(findings: Findings) -> int | None:
    """The configuration on the front whose cost is nearest to the middle, on a logarithmic scale."""
    front = findings.configs[findings.configs["on_front"]]
    costs = np.log(front["cost_flops"].clip(lower=1.0))
    inner = front.index[((costs - (costs.min() + costs.max()) / 2).abs()).argsort()]
    return int(inner[0]) if len(inner) else None


def _reliability(findings: Findings, index: int) -> Reliability:
    confidence = np.clip(findings.table.signal("confidence")[findings.rows, index], 0, 1)
    return reliability(confidence, findings.table.score[findings.rows, index])


def _grid(findings: Findings, curves: dict[str, Reliability]) -> Grid:
    frames = []
    for name, curve in curves.items():
        edges = np.linspace(0, 1, len(curve.count) + 1)
        columns = {"configuration": name, "from": edges[:-1], "to": edges[1:], "samples": curve.count}
        frames.append(pd.DataFrame({**columns, "confidence": curve.confidence, "accuracy": curve.accuracy}))
    rows = [
        [
            name,
            percent(_mean(curve, curve.confidence)),
            percent(_mean(curve, curve.accuracy)),
            percent(curve.calibration_error),
        ]
        for name, curve in curves.items()
    ]
    columns_shown = ["configuration", "mean confidence", findings.score_name, "ECE"]
    return Grid(
        "calibration",
        pd.concat(frames, ignore_index=True),
        columns_shown,
        rows,
        "Calibration error",
        numeric=3,
    )


def _mean(curve: Reliability, values: np.ndarray) -> float:
    filled = curve.count > 0
    return float(np.average(values[filled], weights=curve.count[filled]))
