"""`adap train-policy`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapcli.commands import guarantees, keeping, policy_field
from adapcli.commands.dataset_metrics import show_metrics
from adapcli.commands.options import FlopsTarget, Json, Overwrite, Quiet, Resume, RunFolder, Seed, whole
from adapcli.commands.units import flops_text, percent_text
from adapcli.console import Console
from policies.texts import count

if TYPE_CHECKING:
    from adapcli.run import Run
    from policies.base import Trained
    from policies.evaluate import Baselines, Evaluation
    from policies.statistics import Interval
    from policies.table import OutcomeTable


def price(text: str) -> float:
    """A price of a full run in score, 0 or more."""
    from math import isfinite, nan

    try:
        value = float(text)
    except ValueError:
        value = nan
    if not (isfinite(value) and value >= 0):
        raise typer.BadParameter(f"{text!r}: expected a price, 0 or more, such as 0.1")
    return value


Algo = Annotated[
    str,
    typer.Option(
        "--algo",
        metavar="NAME",
        help="all, gate, path, one-threshold, threshold, supervised, linear, knn, "
        "ppo, a2c, dqn, reinforce, static or random.",
    ),
]
Price = Annotated[
    float | None,
    typer.Option("--lambda", parser=price, metavar="PRICE", help="Score that a full run's FLOPs are worth."),
]
Timesteps = Annotated[
    int | None,
    typer.Option(
        "--timesteps",
        parser=whole(1, 10**9),
        metavar="N",
        help="Episodes, or looks (ppo, a2c, dqn, reinforce).",
    ),
]
ActionsOption = Annotated[
    str | None,
    typer.Option("--actions", metavar="KIND", help="discrete, or factored: one part per axis (ppo, a2c)."),
]
Env = Annotated[
    str | None,
    typer.Option(
        "--env",
        metavar="NAME",
        help="configure: choose before looking; anytime: look, go on (ppo, a2c, dqn).",
    ),
]

Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="WHAT",
        help="score, or same-answer: agreement with full, no labels; --max-drop counts other answers.",
    ),
]


def train_policy(
    algo: Algo = "ppo",
    flops_target: FlopsTarget = None,
    lambda_: Price = None,
    max_drop: guarantees.Drop = None,
    confidence: guarantees.Confidence = None,
    same_answer: guarantees.SameAnswer = None,
    best_effort: guarantees.BestEffort = False,
    aim: Target = None,
    timesteps: Timesteps = None,
    actions: ActionsOption = None,
    env: Env = None,
    seed: Seed = 0,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", parser=whole(1, 100), metavar="N", help="Of learning by trial (all)."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name in the run.", show_default="the algorithm"),
    ] = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    run: RunFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Learn which configuration each sample needs.

    Trains on the fit samples, chooses on the tune samples and reports on the test samples, all costs of the
    policy included. Give one of --flops-target, --lambda and --max-drop (by default 0.01); it is met on the
    tune samples, and a warning tells when it is not on the test samples. With --confidence the drop is
    guaranteed: the calibration samples certify it, or nothing is written (exit code 5). --algo all trains
    every kind, compares them and recommends one; with --resume, those that are done are not trained again.
    """
    from adapcli.run import Run
    from policies import base, registry

    goal: dict[str, Any] = {"flops_target": flops_target, "lambda_": lambda_, "max_drop": max_drop}
    _one_of(*goal.values())
    promise = guarantees.asked(goal, confidence, same_answer, best_effort)
    console, folder = Console(json=json, quiet=quiet), Run.open(run)
    if algo == "all":
        given = {"target": aim, "actions": actions, "env": env, "name": name}
        asked = policy_field.request_of(goal, promise, best_effort, timesteps, **given)
        every = range(seed, seed + (seeds or 1))
        return policy_field.train_all(console, folder, asked, every, overwrite=overwrite, resume=resume)
    _refuse_resume(resume)
    options = _options_of(algo, env, target=aim, timesteps=timesteps, actions=actions, seed=seed)
    options |= {"promise": promise, "best_effort": best_effort, "seeds": seeds}
    options["name"] = base.check_name(name or registry.default_name(algo, env))
    _train_one(console, folder, algo, goal | options, seed, overwrite=overwrite)


def _train_one(
    console: Console, folder: "Run", algo: str, options: dict[str, Any], seed: int, *, overwrite: bool
) -> None:
    import policies
    from policies import evaluate, registry
    from policies.curves import trade_off
    from policies.table import OutcomeTable

    table = OutcomeTable.load(folder.require("table"))
    registry.target_of(table, options["target"], options["promise"])
    note_unlabelled(console, table)
    target = _claim(folder, options["name"], overwrite=overwrite)
    with console.progress(f"training {algo}") as progress:
        trained = policies.train(algo, table, progress=progress, **options)
    judged, found = evaluate.evaluate(trained.policy, table), trade_off(trained, table)
    keeping.keep(target, table, trained, judged, found, overwrite=overwrite)
    folder.record(seed=seed)
    _show(console, judged, evaluate.baselines(table), trained, table)
    keeping.show_curve(console, found)
    chosen = trained.policy.select(table, table.rows("test")).configuration
    metrics = show_metrics(console, table, {judged.name: chosen, "full configuration": table.full})
    console.result({"policy": target, **keeping.told(trained, judged, found), **metrics})
    console.say(f"saved in {target}; next: {folder.command('report')}")


def note_unlabelled(console: Console, table: "OutcomeTable") -> None:
    """Say what the numbers are where no label is known."""
    if not table.labelled:
        console.say(
            "the samples have no labels: what counts is the agreement with the full configuration "
            "(--target same-answer)"
        )


def _one_of(*given: float | None) -> None:
    from adapcli.errors import UsageError

    if sum(value is not None for value in given) > 1:
        raise UsageError("--flops-target, --lambda and --max-drop exclude each other", "give one of them")


def _claim(folder: "Run", name: str, *, overwrite: bool) -> Path:
    from adapcli.errors import UsageError

    if not overwrite and (folder.policies / name / "policy.json").exists():
        message = f"{folder.policies / name} holds a policy already"
        raise UsageError(message, "add --name NAME to keep both, or --overwrite to replace it")
    return folder.claim("policies", name, overwrite=overwrite)


def _refuse_resume(resume: bool) -> None:
    from adapcli.errors import UsageError

    if resume:
        hint = "a single policy is trained in one go: --overwrite trains it again, --name NAME another one"
        raise UsageError("--resume goes on with --algo all", hint)


def _options_of(algo: str, env: str | None, *, seed: int, **given: Any) -> dict[str, Any]:
    """What was given, and the seed where the algorithm draws at all; UsageError for what it does not take."""
    from policies import registry

    given["env"] = env
    return {**given, "seed": seed} if "seed" in registry.options(algo, env) else given


def _show(
    console: Console, judged: "Evaluation", rivals: "Baselines", trained: "Trained", table: "OutcomeTable"
) -> None:
    """The policy beside the oracles, and what is guaranteed of it, for people."""
    from adapcli.report.labels import score_name

    scored = score_name(table)
    oracles = [(f"{oracle.name} (not achievable)", oracle) for oracle in rivals.oracles]
    console.table(
        [
            "policy",
            f"{scored} %",
            "95 % interval",
            "cost",
            "of full",
            "saves: vs full",
            "vs static",
            "95 % interval",
        ],
        [_row(name, found) for name, found in ((judged.name, judged), *oracles)],
        title=f"{count(judged.n, 'test sample')}; features, network and readouts are in every cost",
    )
    console.print(
        f"full configuration: {scored} {100 * judged.full_score:.2f} %, "
        f"{flops_text(judged.full_cost_flops)}; "
        f"static choices as good as {judged.name}: {flops_text(judged.static_cost_flops)}"
    )
    if trained.certificate is None:  # a certificate says it as a loss
        console.print(f"against full: {_points(judged.score_difference)}")
    if trained.target == "same-answer" and table.labelled:
        console.print(
            f"no label was read in training: what counted is the full configuration's answer, which "
            f"{100 * judged.agreement.mean:.2f} % of these samples get "
            f"({100 * judged.agreement.low:.2f} .. {100 * judged.agreement.high:.2f})"
        )
    if trained.certificate is None:
        _warn_of_misses(console, judged, trained, scored)
        _say_few(console, trained, table)
    else:
        guarantees.show(console, trained, judged, table, scored)


def _points(difference: "Interval") -> str:
    """A signed difference from the full configuration, with its interval."""
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * difference.mean:+.2f} points ({low:+.2f} .. {high:+.2f})"


def _say_few(console: Console, trained: "Trained", table: "OutcomeTable") -> None:
    """What few tune samples know of the policy that they chose."""
    from policies.evaluate import evaluate
    from policies.samples import few

    told = few(table, "tune")
    if told:
        tuned = evaluate(trained.policy, table, "tune", resamples=0)
        console.say(f"chosen on {told}; against full there: {_points(tuned.score_difference)}")


def _warn_of_misses(console: Console, judged: "Evaluation", trained: "Trained", scored: str) -> None:
    """What was asked for is chosen on tune; whether it holds on other samples shows on test alone."""
    from policies.evaluate import met

    asked = trained.objective
    if asked.max_drop is not None:
        wish = f"{scored} at most {100 * asked.max_drop:g} points below the full configuration's"
    elif asked.same_answer is not None:
        wish = f"at most {100 * asked.same_answer:g} % of other answers than the full configuration's"
    else:
        wish = f"at most {asked.flops_target} of the full cost"
    if not trained.met:
        console.warn(
            f"no candidate gives {wish} on the tune samples: the nearest was taken; "
            "the full configuration itself always does"
        )
    elif met(asked, judged) is False:
        console.warn(f"{wish}: kept on the tune samples, but not on the test samples")


def _row(name: str, found: "Evaluation") -> list[object]:
    low, high = found.saving_static.low, found.saving_static.high
    return [
        name,
        f"{100 * found.score.mean:.2f}",
        f"{100 * found.score.low:.2f} .. {100 * found.score.high:.2f}",
        flops_text(found.cost_flops.mean),
        f"{found.cost_flops.mean / found.full_cost_flops:.3f}",
        percent_text(found.saving_full.mean),
        percent_text(found.saving_static.mean),
        f"{100 * low:.1f} .. {100 * high:.1f}",
    ]
