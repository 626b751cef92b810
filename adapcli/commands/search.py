"""`adap search`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapcli.commands.options import FlopsTarget, Json, Overwrite, Quiet, RunFolder, Seed, fraction, whole
from adapcli.commands.units import flops_text, percent_text
from adapcli.console import Console

if TYPE_CHECKING:
    from adapcli.search import SearchResult, StudySummary

SAMPLERS = ("tpe", "nsga2", "random", "grid")
TRIALS = 100


def sampler_name(text: str) -> str:
    """One of SAMPLERS; BadParameter naming them otherwise."""
    if text not in SAMPLERS:
        raise typer.BadParameter(f"{text!r}: allowed are {', '.join(SAMPLERS)}")
    return text


MinScore = Annotated[
    float | None,
    typer.Option(
        "--min-score", parser=fraction, metavar="FRACTION", help="Cheapest configuration that reaches it."
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        "--sampler", parser=sampler_name, metavar="NAME", help="tpe, nsga2, random or grid, not all."
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
    min_score: MinScore = None,
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
    calibration samples and reports on the test samples.
    """
    from adapcli.errors import UsageError
    from adapcli.report.labels import score_name
    from adapcli.run import Run
    from adapcli.search import Target, exhaustive, sampled
    from policies.table import OutcomeTable

    if sampler is None and (trials or study):
        raise UsageError("--trials and --study go with --sampler", f"add --sampler {SAMPLERS[0]}")
    console, folder = Console(json=json, quiet=quiet), Run.open(run)
    target = Target(flops_target, min_score)
    table = OutcomeTable.load(folder.require("table"))
    if sampler is None:
        result = exhaustive(table, target)
    else:
        with console.progress(f"searching with {sampler}") as progress:
            result = sampled(
                table,
                target,
                sampler=sampler,
                trials=trials or TRIALS,
                study=study,
                seed=seed,
                progress=progress,
                warn=console.warn,
            )
    told = _keep(result, folder.search, overwrite=overwrite)
    folder.record(seed=seed)
    show(console, result, table.n_configs, scored=score_name(table), again=folder.command("search"))
    console.say(told)
    console.result(result.to_dict())


def _keep(result: "SearchResult", folder: Path, *, overwrite: bool) -> str:
    """Save the result, unless it only looks where an earlier one chose; says what was done."""
    from adapcli.search import chosen_in

    if result.choice is None and not overwrite and (choice := chosen_in(folder)):
        return f"not saved: the choice in {folder} stays, {choice}; --overwrite replaces it"
    earlier = result.save(folder, overwrite=overwrite)
    return f"saved in {folder}" + (f"; kept the earlier result in {earlier}" if earlier else "")


def show(console: Console, result: "SearchResult", n_configs: int, *, scored: str, again: str) -> None:
    """The front, what a sampler missed, and the choice, for people.

    scored: what the score is called; again: how to search once more.
    """
    rows = [
        [
            "*" if result.choice and point.index == result.choice.index else "",
            point.label,
            flops_text(point.cost),
            f"{point.cost_fraction:.3f}",
            f"{100 * point.calibration_score:.2f}",
            f"{100 * point.test_score.mean:.2f}",
            f"{100 * point.test_score.low:.2f} .. {100 * point.test_score.high:.2f}",
        ]
        for point in result.front
    ]
    title = f"Pareto front: {len(rows)} of {n_configs} configurations"
    columns = ["", "configuration", "cost", "of full", "calibration %", "test %", "95 % interval"]
    console.table(columns, rows, title=title)
    console.print(f"hypervolume {result.hypervolume:.4f} (reference: full cost, score 0)")
    if result.study is not None:
        _show_study(console, result.study)
    _show_choice(console, result, scored, again)


def _show_study(console: Console, study: "StudySummary") -> None:
    console.print(
        f"{study.sampler}: {study.evaluated} configurations evaluated, {study.new} of them now; "
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
    console.print(
        f"choice: {choice.label}, {choice.cost_fraction:.3f} of the full cost, test {scored} "
        f"{100 * score.mean:.2f} % ({100 * score.low:.2f} .. {100 * score.high:.2f}), n = {result.n_test}"
    )
    console.print(
        f"against full ({result.full.label}): {percent_text(1 - choice.cost_fraction)} cheaper, "
        f"{100 * change.mean:+.2f} points ({100 * change.low:+.2f} .. {100 * change.high:+.2f})"
    )
