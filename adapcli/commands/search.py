"""`adap search`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapcli.commands.dataset_metrics import show_metrics
from adapcli.commands.objectives import (
    Asked,
    LatencyTarget,
    MeasuredBatch,
    MeasuredDevice,
    MeasuredDtype,
    MemoryTarget,
    ObjectiveName,
    Wanted,
    cost_text,
)
from adapcli.commands.options import (
    FlopsTarget,
    Json,
    Overwrite,
    Quiet,
    RunFolder,
    Seed,
    fraction,
    one_of,
    whole,
)
from adapcli.commands.units import percent_text
from adapcli.console import Console
from policies.texts import count

if TYPE_CHECKING:
    from adapcli.run import Run
    from adapcli.search import SearchResult, StudySummary
    from policies.statistics import Interval
    from policies.table import OutcomeTable

COST = {"flops": "cost", "latency": "latency", "memory": "peak memory"}
LESS = {"flops": "cheaper", "latency": "faster", "memory": "smaller"}
MORE = {"flops": "more expensive", "latency": "slower", "memory": "larger"}
SAMPLERS = ("tpe", "nsga2", "random", "grid")
TRIALS = 100

MinScore = Annotated[
    float | None,
    typer.Option(
        "--min-score",
        parser=fraction,
        metavar="FRACTION",
        help="Cheapest configuration that reaches it: 0.9 or 90%.",
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        "--sampler", parser=one_of(*SAMPLERS), metavar="NAME", help="tpe, nsga2, random or grid, not all."
    ),
]
Trials = Annotated[
    int | None,
    typer.Option(
        "--trials", parser=whole(1, 10**6), metavar="N", help=f"With --sampler: configurations ({TRIALS})."
    ),
]
Study = Annotated[
    Path | None,
    typer.Option("--study", metavar="FILE", help="With --sampler: keep the study here, or resume it."),
]


def search(
    run: RunFolder = None,
    flops_target: FlopsTarget = None,
    latency_target: LatencyTarget = None,
    memory_target: MemoryTarget = None,
    min_score: MinScore = None,
    objective: ObjectiveName = None,
    batch: MeasuredBatch = None,
    device: MeasuredDevice = "",
    dtype: MeasuredDtype = "",
    sampler: Sampler = None,
    trials: Trials = None,
    study: Study = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Choose the configurations worth running.

    Looks at every configuration in the outcome table, or with --sampler at some of them. Chooses on the
    calibration samples and reports on the test samples. Latency, and memory where it was measured, are
    those of `adap bench`, on this or another machine.
    """
    from adapcli.errors import UsageError
    from adapcli.report.labels import score_name
    from adapcli.run import Run
    from policies.table import OutcomeTable

    if sampler is None and (trials or study):
        raise UsageError("--trials and --study go with --sampler", f"add --sampler {SAMPLERS[0]}")
    console, folder = Console(json=json, quiet=quiet), Run.open(run)
    table = OutcomeTable.load(folder.require("table"))
    limits = (flops_target, latency_target, memory_target)
    wanted = Asked(objective, *limits, min_score, batch, device, dtype).wanted(table, folder)
    how: dict[str, Any] = {"trials": trials or TRIALS, "study": study, "seed": seed}
    result = _result(console, table, wanted, sampler, how)
    told = [
        *wanted.told,
        *_few(result, table),
        _keep(result, folder.search, overwrite=overwrite),
        *_next(result, table, folder),
    ]
    folder.record(seed=seed)
    show(console, result, table.n_configs, scored=score_name(table), again=folder.command("search"))
    chosen = {} if result.choice is None else {f"choice: {result.choice.label}": result.choice.index}
    metrics = show_metrics(console, table, chosen | {f"full: {result.full.label}": result.full.index})
    warnings = [*_missed(result, table), *_disagreements(result, table)]
    _tell(console, told, warnings)
    console.result({**result.to_dict(), "warnings": warnings, **metrics})


def _result(
    console: Console, table: "OutcomeTable", wanted: Wanted, sampler: str | None, how: dict[str, Any]
) -> "SearchResult":
    """Look at every configuration, or with a sampler at some; how: of the sampler."""
    from adapcli.search import exhaustive, sampled

    if sampler is None:
        return exhaustive(table, wanted.target, objective=wanted.objective)
    told: dict[str, Any] = {"objective": wanted.objective, "warn": console.warn}
    with console.progress(f"searching with {sampler}") as progress:
        return sampled(table, wanted.target, sampler=sampler, progress=progress, **told, **how)


def _tell(console: Console, remarks: list[str], warnings: list[str]) -> None:
    for line in warnings:
        console.warn(line)
    for line in remarks:
        console.say(line)


def _missed(result: "SearchResult", table: "OutcomeTable") -> list[str]:
    """Where the test samples miss the score that was asked for: it is chosen on others."""
    from adapcli.report.labels import score_name

    choice, least = result.choice, result.target.min_score
    if choice is None or least is None or choice.test_score.mean >= least:
        return []
    return [
        f"{score_name(table)} of at least {100 * least:g} %: kept on the calibration samples, but not on the "
        f"test samples: {_interval_text(choice.test_score)}"
    ]


def _few(result: "SearchResult", table: "OutcomeTable") -> list[str]:
    """What few calibration samples know of the choice; nothing where there are enough."""
    import numpy as np

    from adapcli.report.labels import score_name
    from policies.samples import few
    from policies.statistics import mean_interval

    told = few(table, "calibration")
    if result.choice is None or not told:
        return []
    there = mean_interval(np.asarray(table.score[table.rows("calibration"), result.choice.index]))
    return [f"chosen on {told}; {score_name(table)} there: {_interval_text(there)}"]


def _interval_text(found: "Interval") -> str:
    return f"{100 * found.mean:.2f} % ({100 * found.low:.2f} .. {100 * found.high:.2f})"


def _disagreements(result: "SearchResult", table: "OutcomeTable") -> list[str]:
    """Where FLOPs and latency order the front differently, in words; none without measurements."""
    from adapcli.errors import FileError
    from adapcli.measure.order import compare
    from adapcli.search.objectives import conditions_of

    if table.latency is None or len(table.latency) == 0:
        return []
    try:
        known = conditions_of(table)
    except FileError as error:
        return [f"the measured latencies cannot be used: {error.message}"]
    condition = result.condition or next((c for c in reversed(known) if c.batch == 1), known[-1])
    names = {point.index: point.label for point in (*result.front, result.full)}
    text = compare(table, condition, names).warning(names.__getitem__)
    return [text] if text else []


def _keep(result: "SearchResult", folder: Path, *, overwrite: bool) -> str:
    """Save the result, unless it only looks where an earlier one chose; says what was done."""
    from adapcli.search import chosen_in

    if result.choice is None and not overwrite and (choice := chosen_in(folder)):
        return f"not saved: the choice in {folder} stays, {choice}; --overwrite replaces it"
    earlier = result.save(folder, overwrite=overwrite)
    return f"saved in {folder}" + (f"; kept the earlier result in {earlier}" if earlier else "")


def _next(result: "SearchResult", table: "OutcomeTable", run: "Run") -> list[str]:
    """How to run the choice, where it is a configuration of one model: on the data if they are a folder."""
    axes = ("tokens", "width", "depth")
    if result.choice is None or not set(axes) <= set(table.configs.columns):
        return []
    chosen = table.configs.iloc[result.choice.index]
    options = " ".join(f"--{axis} {chosen[axis]}" for axis in axes)
    told = f"predict, extract and export run the choice with {options}"
    data = table.meta.get("data")
    spec = run.reopened(data) if isinstance(data, dict) and "name" in data else None
    if spec is None or not spec.name.startswith("folder:"):
        return [told, f"next: {run.command('report')}"]
    place = shlex.quote(spec.name.removeprefix("folder:"))
    return [told, f"next: {run.command('predict')} {options} {place}"]


def show(console: Console, result: "SearchResult", n_configs: int, *, scored: str, again: str) -> None:
    """The front, what a sampler missed, and the choice, for people.

    scored: what the score is called; again: how to search once more.
    """
    rows = [
        [
            "*" if result.choice and point.index == result.choice.index else "",
            point.label,
            cost_text(point.cost, result.unit),
            f"{point.cost_fraction:.3f}",
            f"{100 * point.calibration_score:.2f}",
            f"{100 * point.test_score.mean:.2f}",
            f"{100 * point.test_score.low:.2f} .. {100 * point.test_score.high:.2f}",
        ]
        for point in result.front
    ]
    eligible = n_configs if result.eligible is None else result.eligible
    title = f"Pareto front: {len(rows)} of {count(eligible, 'configuration')}"
    if eligible < n_configs:
        title += f"; {n_configs - eligible} more were not measured"
    columns = [
        "",
        "configuration",
        COST[result.objective],
        "of full",
        "calibration %",
        "test %",
        "95 % interval",
    ]
    console.table(columns, rows, title=title)
    console.print(f"hypervolume {result.hypervolume:.4f} (reference: full cost, score 0)")
    if result.study is not None:
        _show_study(console, result.study)
    _show_choice(console, result, scored, again)


def _show_study(console: Console, study: "StudySummary") -> None:
    console.print(
        f"{study.sampler}: {count(study.evaluated, 'configuration')} evaluated, {study.new} of them now; "
        f"proposed in vain: {study.repeats} seen before, {study.over_budget} over the budget"
    )
    line = f"regret against the exhaustive front: hypervolume {100 * study.hypervolume_regret:.2f} %"
    if study.score_regret is not None and study.cost_regret is not None:
        line += f", score {100 * study.score_regret:.2f} points, cost {study.cost_regret:+.3f} of full"
    console.print(line)


def _show_choice(console: Console, result: "SearchResult", scored: str, again: str) -> None:
    choice, change = result.choice, result.score_change
    if choice is None or change is None:
        console.say(f"no target given; choose with: {again} --flops-target 0.7")
        return
    score = choice.test_score
    cost = f"{choice.cost_fraction:.3f} of the full cost"
    if result.objective != "flops":
        cost = (
            f"{cost_text(choice.cost, result.unit)}, {choice.cost_fraction:.3f} of the full configuration's"
        )
    console.print(
        f"choice: {choice.label}, {cost}, test {scored} {_interval_text(score)}, n = {result.n_test}"
    )
    saving = 1 - choice.cost_fraction
    saved = f"{percent_text(abs(saving))} {(LESS if saving >= 0 else MORE)[result.objective]}"
    console.print(
        f"against full ({result.full.label}): {saved}, "
        f"{100 * change.mean:+.2f} points ({100 * change.low:+.2f} .. {100 * change.high:+.2f})"
    )
