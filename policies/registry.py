"""Algorithm name -> trainer, and kept policy -> object."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies import base
from policies.anytime.gate import Gate, train_gate
from policies.anytime.network import KINDS as ANYTIME_KINDS
from policies.anytime.network import AnytimeNetwork
from policies.anytime.path import Path as StatePath
from policies.anytime.path import train_one_threshold, train_path
from policies.anytime.soft import Target, aimed
from policies.base import Progress, StoredPolicy, Trained
from policies.baselines import RandomMixture, Static, train_random, train_static
from policies.errors import FileError, UsageError
from policies.objective import Objective
from policies.rl import ALGORITHMS, MixerPolicy, NetworkPolicy, train_anytime, train_reinforce
from policies.rl import train as train_by_reinforcement
from policies.supervised import ALGORITHMS as FULL_FEEDBACK
from policies.supervised import Priced, train_knn, train_linear, train_supervised
from policies.table import OutcomeTable
from policies.threshold import Threshold, train_threshold

if TYPE_CHECKING:
    from policies.guarantee import Promise

Trainer = Callable[..., Trained]

_TRAINERS: dict[str, Trainer] = {
    "static": train_static,
    "random": train_random,
    "threshold": train_threshold,
    "gate": train_gate,
    "path": train_path,
    "one-threshold": train_one_threshold,
    "knn": train_knn,
    "linear": train_linear,
    "supervised": train_supervised,
    "reinforce": train_reinforce,
    **dict.fromkeys(ALGORITHMS, train_by_reinforcement),
}
_KINDS: dict[str, type[StoredPolicy]] = {
    "static": Static,
    "random": RandomMixture,
    "threshold": Threshold,
    "gate": Gate,
    "path": StatePath,
    **dict.fromkeys(FULL_FEEDBACK, Priced),
    "reinforce": MixerPolicy,
    **dict.fromkeys(ALGORITHMS, NetworkPolicy),
    **dict.fromkeys(ANYTIME_KINDS, AnytimeNetwork),
}
ENVIRONMENTS: dict[str, Trainer] = {"configure": train_by_reinforcement, "anytime": train_anytime}
"""What ppo, a2c and dqn learn in; the first unless another is asked for."""


def names() -> list[str]:
    """The algorithms that `train` knows."""
    return list(_TRAINERS)


def options(algo: str, env: str | None = None) -> list[str]:
    """The options of an algorithm, in an environment. UsageError if one of them is not known."""
    fixed = {"table", "objective", "algo", "progress", "target"}
    return [name for name in signature(_trainer(algo, env)).parameters if name not in fixed] + ["target"]


def train(
    algo: str,
    table: OutcomeTable,
    *,
    env: str | None = None,
    lambda_: float | None = None,
    flops_target: float | None = None,
    max_drop: float | None = None,
    target: Target | None = None,
    promise: "Promise | None" = None,
    best_effort: bool = False,
    progress: Progress | None = None,
    **given: Any,
) -> Trained:
    """Train on the fit split, choose on the tune split.

    Give one of lambda_ (price of a full run), flops_target (fraction of the full cost) and max_drop (loss
    of score against the full configuration); by default max_drop=0.01. Other options are the algorithm's,
    see `options`; one that is None is left at its default.

    target: what counts as the score, whatever the algorithm: "score" (the default), or "same-answer" (the
    default, and all there is, for a table without labels), the agreement with the full configuration. Then no label is read, max_drop is the share of answers that may
    differ from the full configuration's (and the objective of the result says so), and lambda_ the price of a
    full run in such answers.
    env: what ppo, a2c and dqn learn in, "configure" (choose before looking, the default) or "anytime" (look,
    go on or stop).
    promise: in place of a target, what the chosen policy must keep with confidence; the calibration split
    says whether it does, and the result holds a certificate. best_effort: also where it does not show.

    Raises UsageError for an unknown algorithm or option, InfeasibleError if nothing meets the target.
    """
    trainer = _trainer(algo, env)
    chosen = {name: value for name, value in given.items() if value is not None}
    known = options(algo, env)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        where = "" if env is None else f" in {env}"
        raise UsageError(f"{algo}{where} has no option {unknown[0]}", f"it has: {', '.join(known)}")
    taken = signature(trainer).parameters
    chosen |= {key: value for key, value in (("algo", algo), ("progress", progress)) if key in taken}
    objective = Objective(lambda_, flops_target, promise.limit if promise else max_drop)
    target = target_of(table, target, promise)
    seen = aimed(table, target)
    if promise is None:
        return _aimed(trainer(seen, objective, **chosen), target)
    from policies.guarantee import certified

    # Candidates that answer as the full configuration does also score as it does; learning twice is too slow.
    views = promise.views(seen)[: 1 if algo in ALGORITHMS or target == "same-answer" else None]
    trained = [trainer(view, objective, **chosen) for view in views]
    return _aimed(certified(trained, table, promise, best_effort=best_effort), target)


def target_of(table: OutcomeTable, target: Target | None = None, promise: "Promise | None" = None) -> Target:
    """What counts as the score: the given target, else what the table can tell.

    UsageError where the table has no labels, and the target or the promise is about being right.
    """
    if table.labelled:
        return target or "score"
    if target == "score":
        raise UsageError(
            "target score: these samples have no labels", "use same-answer, the default without labels"
        )
    if promise is not None and promise.loss == "score":
        raise UsageError(
            "a loss of score cannot be guaranteed: these samples have no labels",
            f"guarantee the answers: --same-answer {promise.limit:g} --confidence {promise.confidence:g}",
        )
    return "same-answer"


def _aimed(trained: Trained, target: Target) -> Trained:
    """With what it was aimed at: a drop of agreement is a share of other answers."""
    if target != "same-answer":
        return trained
    most = trained.objective.max_drop
    certain = most is None or trained.certificate is not None
    objective = trained.objective if certain else Objective(same_answer=most)
    return replace(trained, target=target, objective=objective)


def load(path: str | Path, table: OutcomeTable | None = None) -> StoredPolicy:
    """The policy kept in the folder `path`. Nothing in it can be executed.

    With `table`, also check that it was made for that grid. Raises FileError for anything else.
    """
    stored = base.read(path)
    kind = str(stored.content.get("kind"))
    if kind not in _KINDS:
        raise FileError(f"{stored.path}: kind {kind!r} is not known", f"known: {', '.join(_KINDS)}")
    policy = stored.restore(_KINDS[kind])
    if policy.kind != kind:
        raise FileError(f"{stored.path}: says it is {kind} and {policy.kind}")
    if table is not None:
        policy.grid.require(table, policy.name)
    return policy


def _trainer(algo: str, env: str | None = None) -> Trainer:
    if algo not in _TRAINERS:
        raise UsageError(
            f"algorithm {algo!r}: not known{did_you_mean(algo, names())}", f"allowed: {', '.join(names())}"
        )
    if env is None:
        return _TRAINERS[algo]
    if env not in ENVIRONMENTS:
        close = did_you_mean(env, list(ENVIRONMENTS))
        raise UsageError(f"env {env!r}: not known{close}", f"allowed: {', '.join(ENVIRONMENTS)}")
    if algo not in ALGORITHMS:
        raise UsageError(f"{algo} learns in no environment", f"those that do: {', '.join(ALGORITHMS)}")
    return ENVIRONMENTS[env]


def default_name(algo: str, env: str | None = None) -> str:
    """What a policy is called unless it is given a name."""
    return algo if env in (None, "configure") else f"{env}-{algo}"


def did_you_mean(given: str, known: Sequence[str]) -> str:
    """`, did you mean 'ppo'?`, or nothing."""
    close = difflib.get_close_matches(given, known, n=1)
    return f", did you mean '{close[0]}'?" if close else ""
