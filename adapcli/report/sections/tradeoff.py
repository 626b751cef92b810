"""Score over cost: the figure to decide by."""

from functools import partial

from adapcli.report import labels
from adapcli.report.document import Block, Drawing, Grid, Section
from adapcli.report.figures.tradeoff import tradeoff
from adapcli.report.findings import CURVES, Findings
from adapcli.report.units import part, percent, span


def section(findings: Findings) -> Section:
    """The figure, and every configuration as a table to unfold."""
    return Section(
        "tradeoff", f"{labels.opening(findings.score_name)} over cost", [_figure(findings), _all(findings)]
    )


def _figure(findings: Findings) -> Block:
    draw = partial(
        tradeoff,
        findings.configs,
        [findings.front],
        findings.marks(),
        unit=findings.unit,
        score_name=findings.score_name,
        lines=findings.curves(),
    )
    return Drawing("tradeoff", lambda layout: draw(layout=layout), _alt(findings), _caption(findings))


def _alt(findings: Findings) -> str:
    configs, full = findings.configs, findings.table.full
    ends = [
        f"{percent(configs['score'][i])} at {findings.unit.text(configs['cost_flops'][i])}"
        for i in (findings.cheapest, full)
    ]
    return (
        f"{labels.opening(findings.score_name)} over cost for "
        f"{labels.plural(len(configs), 'configuration')}, from {ends[0]} to {ends[1]} for the full one, "
        f"with {labels.plural(len(findings.policies), 'policy', 'policies')}."
    )


def _caption(findings: Findings) -> str:
    lines = [
        f"Every dot is a configuration, scored on {findings.n_text}. The line joins the static choices "
        "that turn out best on these samples; between its corners lie random mixtures of two of them.",
        "Vertical bars are 95 % intervals. Costs include features, a policy's own network and every readout.",
    ]
    drawn = findings.curves()
    if drawn:
        which = ", of those that close most of the gap to the oracle" if len(drawn) == CURVES else ""
        lines.append(
            f"Coloured lines are whole trade-offs, a policy at other prices or thresholds{which}; bands are "
            "95 % intervals over samples."
        )
    if findings.oracles:
        lines.append("Hollow marks are oracles: bounds that no real policy reaches.")
    return " ".join(lines)


def _all(findings: Findings) -> Block:
    ordered = findings.configs.sort_values("cost_flops", kind="stable")
    rows = []
    for i in ordered.index:
        score, cost = findings.score(i), float(findings.table.cost_flops[i])
        name = labels.configuration(findings.table.configs, i)
        costs = [findings.unit.number(cost), part(cost / findings.full_flops)]
        agrees = percent(float(ordered["agreement"][i]))
        rows.append([name, *costs, percent(score.mean), span(score), agrees])
    columns = [
        "configuration",
        findings.unit.name,
        "of full",
        f"{findings.score_name}",
        "95 % interval, %",
        "agrees with full",
    ]
    strong = frozenset(i for i, on_front in enumerate(ordered["on_front"]) if on_front)
    count = labels.plural(len(rows), "configuration")
    caption = f"{count}, on {findings.n_text}, cheapest first; undominated ones stand out"
    return Grid("configurations", ordered, columns, rows, caption, len(columns) - 1, strong, folded=True)
