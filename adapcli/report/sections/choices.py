"""What each policy chose, and for what."""

import numpy as np
import pandas as pd

from adapcli.report import labels, tables
from adapcli.report.document import Block, Drawing, Gallery, Grid, Section, Text
from adapcli.report.examples import examples, spent_on
from adapcli.report.figures.choices import choices
from adapcli.report.findings import Findings
from adapcli.report.maps import drawn_maps
from adapcli.report.policies import Judged
from adapcli.report.units import percent

MOST_CHOSEN = 5
GALLERIES = 3
"""Of so many policies it is shown what they spend much on, the best first."""


def section(findings: Findings) -> Section:
    """Shares of each axis' values, the configurations chosen most, and examples from easy to hard."""
    title = "What was chosen"
    everyone = [*findings.policies, *findings.oracles]
    blocks: list[Block] = []
    if not findings.policies:
        blocks.append(Text("Without policies, this shows what the oracles would choose."))
    if everyone and _axes(findings):
        blocks.append(_figure(findings, everyone))
    if everyone:
        blocks.append(_most(findings, everyone))
    return Section("choices", title, [*blocks, *_examples(findings)])


def _axes(findings: Findings) -> list[str]:
    """The axes that vary; the model where nothing else does, as in a cascade."""
    models = findings.configs["model"].nunique() if "model" in findings.configs else 1
    return tables.varying_axes(findings.configs) or ["model"] * (models > 1)


def _figure(findings: Findings, everyone: list[Judged]) -> Drawing:
    shares = axis_shares(findings, everyone)
    names, axes = ", ".join(e.name for e in everyone), ", ".join(_axes(findings))
    return Drawing(
        "choices",
        lambda layout: choices(shares, layout=layout),
        f"Share of samples per value of each axis, for {names}.",
        f"How many of {findings.n_text} each policy answered at which value of each axis ({axes}). "
        "For a policy that exits early, this is where it stopped.",
    )


def axis_shares(findings: Findings, everyone: list[Judged]) -> pd.DataFrame:
    """Rows (name, axis, value, share): how often each value of an axis was chosen."""
    records = []
    for judged in everyone:
        shares = np.asarray(judged.evaluation.shares)
        for axis in _axes(findings):
            totals = pd.Series(shares).groupby(findings.configs[axis]).sum()
            if axis == "model":  # names have no order: by what they cost
                totals = totals[findings.configs.groupby(axis)["cost_flops"].mean().sort_values().index]
            named = axis == "model"
            records += [
                (judged.name, axis, value, share) for value, share in totals.items() if named or share > 0
            ]
    return pd.DataFrame(records, columns=["name", "axis", "value", "share"])


def _most(findings: Findings, everyone: list[Judged]) -> Grid:
    records, rows = [], []
    for judged in everyone:
        shares = np.asarray(judged.evaluation.shares)
        used = [int(i) for i in np.argsort(-shares, kind="stable") if shares[i] > 0]
        names = [labels.configuration(findings.table.configs, i) for i in used]
        records += [(judged.name, name, shares[i]) for name, i in zip(names, used, strict=True)]
        most = zip(names[:MOST_CHOSEN], used, strict=False)
        told = [f"{name} {percent(shares[i], 0)}".replace(" ", "\u00a0") for name, i in most]
        rows.append([judged.name, str(len(used)), ", ".join(told)])
    frame = pd.DataFrame(records, columns=["name", "configuration", "share"])
    columns = ["", "used", "most often"]
    return Grid("choices", frame, columns, rows, "Configurations chosen most often", numeric=0)


def _examples(findings: Findings) -> list[Block]:
    if findings.table.metrics is not None:
        return _maps(findings)
    found = examples(findings)
    if isinstance(found, str):
        return [Text(f"Examples are left out: {found}.")]
    caption = (
        "Test samples from easy to hard: by how many of "
        f"{labels.plural(len(findings.configs), 'configuration')} they are answered {_rightly(findings)}. "
        f"Under each: {'its class, ' * findings.table.labelled}that share, and what each policy ran and "
        "answered."
    )
    return [Gallery(found, "Example images from easy to hard", caption), *_spent(findings)]


def _rightly(findings: Findings) -> str:
    return "rightly" if findings.table.labelled else "as the full configuration does"


def _spent(findings: Findings) -> list[Block]:
    """What the best policies spend little and much on."""
    best = findings.best_policy
    looking = [p for p in findings.policies if p.per_sample and p is not best]
    found: list[Block] = []
    for judged in ([best] if best is not None else []) + looking[: GALLERIES - 1]:
        shown = spent_on(findings, judged)
        if not isinstance(shown, str) and len(shown) > 1:
            caption = (
                f"What {judged.name} spends little and much on: test samples from cheap to dear, of each "
                "amount as many, although they are not as frequent. Under each: its cost and the share of "
                "all samples that cost as much, the share of configurations that answer it "
                f"{_rightly(findings)}, and what the policy ran."
            )
            found.append(Gallery(shown, f"Images from cheap to dear for {judged.name}", caption))
    return found


def _maps(findings: Findings) -> list[Block]:
    drawn = drawn_maps(findings)
    if isinstance(drawn, str):
        return [Text(f"Maps are left out: {drawn}.")]
    caption = (
        f"Test samples from easy to hard. From left to right: the picture, its target, and the maps of "
        f"{drawn.names}. Grey: pixels that do not count. Under each: the {findings.score_name} of these "
        "maps, and what each policy ran."
    )
    alt = "Maps at several configurations beside picture and target"
    return [Gallery(drawn.examples, alt, caption, strips=True)]
