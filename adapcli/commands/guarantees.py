"""What `adap train-policy` is asked to guarantee: options, and the certificate in words."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from adapcli.commands.options import share
from adapcli.console import Console
from policies.texts import count

if TYPE_CHECKING:
    from policies.base import Trained
    from policies.evaluate import Evaluation
    from policies.guarantee import Certificate, Promise
    from policies.table import OutcomeTable


def loss(text: str) -> float:
    """A loss of score in [0, 1], as a share or in percent."""
    value = share(text)
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"{text!r}: expected a loss of score in [0, 1], such as 0.01, or 1%")
    return value


def confidence_level(text: str) -> float:
    """A confidence from 0.5 to below 1, as a share or in percent."""
    value = share(text)
    if not 0.5 <= value < 1:
        raise typer.BadParameter(f"{text!r}: expected a confidence in [0.5, 1), such as 0.95, or 95%")
    return value


Drop = Annotated[
    float | None,
    typer.Option(
        "--max-drop", parser=loss, metavar="SHARE", help="Largest loss of score: one point is 0.01, or 1%."
    ),
]
Confidence = Annotated[
    float | None,
    typer.Option(
        "--confidence",
        parser=confidence_level,
        metavar="LEVEL",
        help="Guarantee --max-drop with this confidence, such as 0.95, by the calibration samples.",
    ),
]
SameAnswer = Annotated[
    float | None,
    typer.Option(
        "--same-answer",
        parser=loss,
        metavar="SHARE",
        help="Guarantee (0.95) that at most this share of answers differs from full; needs no labels.",
    ),
]
BestEffort = Annotated[
    bool, typer.Option("--best-effort", help="Keep a policy even if nothing can be guaranteed, and say so.")
]


def asked(
    goal: Mapping[str, float | None], confidence: float | None, same_answer: float | None, best_effort: bool
) -> "Promise | None":
    """The promise that the options ask for, if any; UsageError for what does not go together."""
    from adapcli.errors import UsageError

    if confidence is None and same_answer is None:
        if best_effort:
            raise UsageError("--best-effort keeps what --confidence or --same-answer cannot guarantee")
        return None
    if goal["flops_target"] is not None or goal["lambda_"] is not None:
        raise UsageError("a guarantee is of --max-drop or --same-answer, not of --flops-target or --lambda")
    if same_answer is not None and goal["max_drop"] is not None:
        raise UsageError("--max-drop and --same-answer exclude each other", "give one of them")
    return _promise(goal["max_drop"], same_answer, confidence or 0.95)


def _promise(max_drop: float | None, same_answer: float | None, confidence: float) -> "Promise":
    from adapcli.errors import UsageError
    from policies.guarantee import Promise
    from policies.guarantee.promise import LARGEST
    from policies.objective import DEFAULT_DROP

    limit = DEFAULT_DROP if max_drop is None else max_drop
    limit = limit if same_answer is None else same_answer
    if limit > LARGEST:
        raise UsageError(
            f"a guarantee against losing {100 * limit:g} points: expected at most {100 * LARGEST:g}",
            "half a point is 0.005, or 0.5%",
        )
    return Promise(limit, confidence, "score" if same_answer is None else "answer")


def show(
    console: Console, trained: "Trained", judged: "Evaluation", table: "OutcomeTable", scored: str
) -> None:
    """The certificate, what each group of samples loses, and whether the test samples agree."""
    from policies.guarantee import Certificate, told
    from policies.samples import few

    assert trained.certificate is not None
    certificate = Certificate.from_dict(trained.certificate)
    first, *rest = told(certificate, scored)
    (console.print if certificate.certified else console.warn)(first)
    for line in rest:
        console.print(line)
    told_few = few(table, "calibration")
    if told_few:
        console.say(f"certified by {told_few}" if certificate.certified else told_few)
    _show_groups(console, certificate, table)
    _compare(console, certificate, judged)


def _show_groups(console: Console, certificate: "Certificate", table: "OutcomeTable") -> None:
    from adapcli.report import labels

    rows = [
        [
            labels.configuration(table.configs, group.configuration),
            group.n,
            f"{100 * group.share:.1f} %",
            f"{100 * group.loss.mean:.2f}",
            f"{100 * group.loss.low:.2f} .. {100 * group.loss.high:.2f}",
        ]
        for group in certificate.groups
    ]
    columns = ["answered at", "samples", "share", f"loss, {certificate.unit}", "95 % interval"]
    console.table(columns, rows, title=f"what {count(certificate.n, 'calibration sample')} lose, by group")


def _compare(console: Console, certificate: "Certificate", judged: "Evaluation") -> None:
    """Samples of another kind break promises: say so where the test samples show it."""
    if certificate.loss == "score":
        low, mean, high = (-getattr(judged.score_difference, at) for at in ("high", "mean", "low"))
    else:
        low, mean, high = (1 - getattr(judged.agreement, at) for at in ("high", "mean", "low"))
    limit, unit = f"{100 * certificate.limit:g}", certificate.unit
    lost = "a loss of " if certificate.loss == "score" else ""
    line = f"on {count(judged.n, 'test sample')}: {lost}{100 * mean:.2f} {unit} "
    line += f"({100 * low:.2f} .. {100 * high:.2f})"
    if certificate.certified and low > certificate.limit:
        console.warn(f"{line}, not below {limit}: they are not like the calibration samples")
    else:
        console.print(f"{line}; the limit is {limit}")
