"""What is guaranteed of the policies, in words and numbers."""

import pandas as pd

from adapcli.report import labels
from adapcli.report.document import Block, Grid, Text
from adapcli.report.findings import SPLIT, Findings
from adapcli.report.policies import Judged
from policies.guarantee import Certificate, exits, told

LIKENESS = (
    "A guarantee is for samples drawn like the calibration samples, from sources like theirs; it is one for "
    "each policy, not for all of them together, and none for a limit that was picked after others had failed."
)


def blocks(findings: Findings) -> list[Block]:
    """A paragraph for each certificate, and the loss of each group of samples; nothing without any."""
    sure = [(p, p.certificate) for p in findings.policies if p.certificate is not None]
    if not sure:
        return []
    words = [Text(f"{p.name}: {' '.join(told(c, findings.score_name))} {_seen(p, c)}") for p, c in sure]
    return [*words, Text(LIKENESS), _groups(findings, sure)]


def _seen(judged: Judged, certificate: Certificate) -> str:
    """What the samples of the report say, from which nothing was chosen."""
    e = judged.evaluation
    if certificate.loss == "score":
        mean, low, high = (-getattr(e.score_difference, at) for at in ("mean", "high", "low"))
    else:
        mean, low, high = (1 - getattr(e.agreement, at) for at in ("mean", "high", "low"))
    lost = "a loss of " if certificate.loss == "score" else ""
    seen = f"On the {labels.plural(e.n, f'{SPLIT} sample')}: {lost}{_hundredths(mean)} {certificate.unit}"
    seen += f" ({_hundredths(low)} to {_hundredths(high)})"
    broken = certificate.certified and low > certificate.limit
    return (
        f"{seen}, more than guaranteed: they are not like the calibration samples." if broken else f"{seen}."
    )


def _groups(findings: Findings, sure: list[tuple[Judged, Certificate]]) -> Grid:
    columns = ["", "answered at", "calibration samples", "share, %", "loss", "95 % interval"]
    rows, records = [], []
    for judged, certificate in sure:
        for group in certificate.groups:
            at = labels.configuration(findings.table.configs, group.configuration)
            mean, low, high = map(_hundredths, (group.loss.mean, group.loss.low, group.loss.high))
            loss = f"{mean} {certificate.unit}"
            share = f"{100 * group.share:.1f}"
            rows.append([judged.name, at, labels.number(group.n), share, loss, f"{low} to {high}"])
            record = {"policy": judged.name, "configuration": at, "n": group.n, "share": group.share}
            records.append(
                record
                | {"loss_of": certificate.loss, "loss": group.loss.mean}
                | {"loss_low": group.loss.low, "loss_high": group.loss.high}
            )
    caption = "What each group of calibration samples loses against the full configuration, each by itself"
    return Grid("guarantees", pd.DataFrame(records), columns, rows, caption, numeric=4, folded=len(rows) > 12)


def lost_at_exits(findings: Findings) -> list[Block]:
    """What the samples of each exit lose, of every policy that decides per sample; folded."""
    rows, records = [], []
    for judged in findings.policies:
        if judged.policy is None or not judged.per_sample:
            continue
        for group in exits(judged.policy, findings.table, SPLIT):
            at = labels.configuration(findings.table.configs, group.configuration)
            mean, low, high = map(_hundredths, (group.loss.mean, group.loss.low, group.loss.high))
            share = f"{100 * group.share:.1f}"
            rows.append([judged.name, at, labels.number(group.n), share, mean, f"{low} to {high}"])
            records.append(
                {"policy": judged.name, "configuration": at, "n": group.n, "share": group.share}
                | {"loss": group.loss.mean, "loss_low": group.loss.low, "loss_high": group.loss.high}
            )
    if not rows:
        return []
    columns = ["", "answered at", "samples", "share, %", "loss, points", "95 %, all together"]
    caption = (
        f"What {findings.n_text} lose against the full configuration, by where they are answered; the "
        "intervals of a policy hold all together"
    )
    return [Grid("exits", pd.DataFrame(records), columns, rows, caption, numeric=4, folded=True)]


def _hundredths(share: float) -> str:
    return f"{100 * share:.2f}".replace("-0.00", "0.00").replace("-", "−")
