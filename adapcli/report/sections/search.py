"""What the search found."""

from adapcli.report import labels
from adapcli.report.document import Block, Facts, Grid, Missing, Section, Text
from adapcli.report.findings import Findings
from adapcli.report.units import part, percent, points, significant, span
from adapcli.search import Point, SearchResult

SHOWN = 12
"""A longer front is folded."""
SHOWN_IN = {"bytes": (2**20, "MiB")}


def section(findings: Findings) -> Section:
    """The front, the target, and how a sampler fared."""
    title, result = "Search", findings.search
    if result is None:
        missing = Missing(
            "No search has been made in this run.", findings.command("search --flops-target 0.7")
        )
        return Section("search", title, [missing])
    blocks: list[Block] = [Text(_told(findings, result)), _front(findings, result)]
    if result.study is not None:
        blocks.append(_study(result))
    return Section("search", title, blocks)


def _told(findings: Findings, result: SearchResult) -> str:
    parts = [
        f"{labels.plural(len(result.front), 'configuration')} on the front, of {findings.table.n_configs}: "
        f"chosen on {labels.plural(result.n_calibration, 'calibration sample')} and reported on "
        f"{labels.plural(result.n_test, 'test sample')}.",
        f"Target: {target_text(result)}.",
        f"Hypervolume {result.hypervolume:.4f}: the best score within a budget, averaged over budgets from "
        "nothing to the full configuration's cost.",
    ]
    return " ".join(parts)


def target_text(result: SearchResult) -> str:
    """What was asked for."""
    if result.target.fraction is not None:
        measured = "FLOPs" if result.objective == "flops" else result.objective
        return f"at most {result.target.fraction:g} of the full configuration's {measured}"
    if result.target.limit is not None:
        where = f" ({labels.readable(str(result.condition))})" if result.condition else ""
        return f"{result.objective} of at most {cost_text(result.target.limit, result.unit)}{where}"
    if result.target.min_score is not None:
        return f"a score of at least {percent(result.target.min_score)}"
    return "not given, so the front only"


def cost_text(cost: float, unit: str) -> str:
    """A measured cost, or one that is no FLOPs: "0.764 ms", "1.39 MiB"."""
    scale, name = SHOWN_IN.get(unit, (1, unit))
    return f"{significant(cost / scale)} {name}"


def _front(findings: Findings, result: SearchResult) -> Grid:
    configs = findings.table.configs
    rows = [[labels.configuration(configs, p.index), *_numbers(findings, result, p)] for p in result.front]
    unit = (
        findings.unit.name if result.objective == "flops" else SHOWN_IN.get(result.unit, (1, result.unit))[1]
    )
    columns = ["configuration", unit, "of full", "calibration", "test", "95 % interval, %"]
    chosen = None if result.choice is None else result.choice.index
    strong = frozenset(i for i, point in enumerate(result.front) if point.index == chosen)
    caption = (
        f"Front, cheapest first, with its {findings.score_name} where it was chosen and where it is reported"
    )
    caption += "; the choice stands out" if strong else ""
    return Grid(
        "front", result.frame(), columns, rows, caption, len(columns) - 1, strong, folded=len(rows) > SHOWN
    )


def _numbers(findings: Findings, result: SearchResult, point: Point) -> list[str]:
    if result.objective == "flops":
        cost = findings.unit.number(point.cost)
    else:
        cost = cost_text(point.cost, result.unit).partition(" ")[0]
    score = point.test_score
    return [
        cost,
        part(point.cost_fraction),
        percent(point.calibration_score),
        percent(score.mean),
        span(score),
    ]


def _study(result: SearchResult) -> Facts:
    study = result.study
    assert study is not None
    items = [
        ("sampler", f"{study.sampler}, seed {study.seed}"),
        ("configurations evaluated", f"{study.evaluated} ({study.new} new)"),
        ("proposals repeated / over budget", f"{study.repeats} / {study.over_budget}"),
        ("hypervolume regret", f"{percent(study.hypervolume_regret, 2)} of the exhaustive search's "
                               f"{significant(study.exhaustive_hypervolume, 4)}"),
    ]  # fmt: skip
    if study.score_regret is not None:
        items.append(("regret of the choice", f"{points(study.score_regret)} points of calibration score"))
    if study.path:
        items.append(("study", study.path))
    return Facts(items)
