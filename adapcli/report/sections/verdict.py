"""What to do, in a few lines."""

from collections.abc import Mapping

from adapcli.report import labels
from adapcli.report.document import Answer
from adapcli.report.findings import SPLIT, Findings
from adapcli.report.policies import Judged
from adapcli.report.sections.hardware import gains, slower, speed
from adapcli.report.sections.search import cost_text, target_text
from adapcli.report.units import half_width, part, percent, points, span
from adapcli.search import Point, SearchResult
from policies.evaluate import Evaluation
from policies.guarantee import told
from policies.statistics import Interval

STATIC, POLICY, FULL = "STATIC CHOICE", "PER-SAMPLE POLICY", "FULL CONFIGURATION, FOR COMPARISON"


def answers(findings: Findings) -> list[Answer]:
    """The static choice, the best policy, and what they are measured against."""
    return [_static(findings), _policy(findings), _full(findings)]


def _static(findings: Findings) -> Answer:
    search = findings.search
    if search is None or search.choice is None:
        command = findings.command("search --flops-target 0.7")
        return Answer(STATIC, "Not chosen yet", f"{command} chooses the best configuration within a budget.")
    choice, score = search.choice, search.choice.test_score
    where = labels.configuration_long(findings.table.configs, choice.index)
    reached = f"{percent(score.mean)} ± {100 * half_width(score):.1f}"
    headline = f"Run {where}: {reached} at {_price(search, choice)}"
    cost = findings.unit.text(float(findings.table.cost_flops[choice.index]))
    numbers = f"{cost} per sample"
    if search.score_change is not None:
        change = search.score_change
        numbers += (
            f"; {points(change.mean)} points ({points(change.low)} to {points(change.high)}) against full"
        )
    note = (
        f"Chosen on {labels.plural(search.n_calibration, 'calibration sample')} for {target_text(search)}; "
        f"reported on {labels.plural(search.n_test, 'test sample')}, with 95 % intervals."
    )
    name = labels.configuration(findings.table.configs, choice.index)
    headline += _contradicted(slower(findings, "static", name, findings.table.cost_flops[choice.index]))
    return Answer(STATIC, headline, numbers, [note, *speed(findings, "static", name)])


def _contradicted(told: str) -> str:
    """What speaks against a choice belongs beside it, not under it."""
    return f"; {told}" if told else ""


def _price(search: SearchResult, choice: Point) -> str:
    """What the choice costs, in what was searched for."""
    if search.objective == "flops":
        return f"{part(choice.cost_fraction)} of full"
    return f"{cost_text(choice.cost, search.unit)}, {part(choice.cost_fraction)} of full"


def _policy(findings: Findings) -> Answer:
    best = findings.best_policy
    if best is None:
        command = findings.command("train-policy --algo threshold")
        return Answer(POLICY, "Not trained yet", f"{command} trains one on the same table.")
    e = best.evaluation
    reached = f"{percent(e.score.mean)} ± {100 * half_width(e.score):.1f}"
    headline = f"Policy {best.name}: {reached} at {part(e.cost_flops.mean / e.full_cost_flops)} of full"
    headline += _contradicted(slower(findings, "policy", best.name, e.cost_flops.mean))
    saved = _saved(e.saving_full)
    numbers = f"{saved}; {_against_full(e.score_difference)}"
    timed = gains(findings, "policy", best.name)
    notes = [*_guarantee(best, findings.score_name), *_missed(best), _against_static(e, timed)]
    count = sum(policy.per_sample for policy in findings.policies)
    if count > 1:
        notes.append(f"Picked among {count} policies by what it saves on the tune split.")
    return Answer(POLICY, headline, numbers, [*notes, *speed(findings, "policy", best.name)])


def _guarantee(judged: Judged, scored: str) -> list[str]:
    """What is guaranteed of the policy, or was asked for in vain."""
    return told(judged.certificate, scored)[:1] if judged.certificate is not None else []


def _missed(judged: Judged) -> list[str]:
    """A sentence if the policy does not keep on these samples what was asked of it.

    With a certificate, the section on policies tells how far they differ.
    """
    objective, e = judged.objective, judged.evaluation
    if objective is None or judged.met is not False or judged.certificate is not None:
        return []
    kept = (
        " on the tune samples" if judged.made.get("met") else ", which no candidate kept on the tune samples"
    )
    if objective.max_drop is not None:
        limit, found = _apart(100 * objective.max_drop, -100 * e.score_difference.mean, 1)
        return [
            f"Asked for at most {limit} points below full{kept}; on the {SPLIT} samples it is {found} below."
        ]
    if objective.flops_target is None:
        return []
    limit, found = _apart(objective.flops_target, e.cost_flops.mean / e.full_cost_flops, 2)
    return [f"Asked for a cost of at most {limit} of full{kept}; on the {SPLIT} samples it is {found}."]


def _apart(limit: float, found: float, digits: int) -> tuple[str, str]:
    """Both with the fewest decimals, from `digits` to 6, that tell them apart."""
    texts = ((f"{limit:.{d}f}", f"{found:.{d}f}") for d in range(digits, 7))
    return next((pair for pair in texts if pair[0] != pair[1]), (f"{limit:g}", f"{found:g}"))


def _against_full(change: Interval) -> str:
    return f"{points(change.mean)} points ({points(change.low)} to {points(change.high)}) against full"


def _saved(saving: Interval) -> str:
    if saving.mean < 0:
        return f"Costs {percent(-saving.mean)} more FLOPs than the full configuration"
    return f"Saves {percent(saving.mean)} of the full configuration's FLOPs"


def _against_static(e: Evaluation, gains_: Mapping[int, float]) -> str:
    """Whether deciding per sample pays in FLOPs, as far as the samples tell, and whether it does in time."""
    if e.beats_statics:
        saved, than = e.saving_static.mean, "than the best of them"
        cost = f"{percent(abs(saved))} {'fewer' if saved >= 0 else 'more'} FLOPs {than}"
        return f"Better than every static choice, at {cost}{_in_time(gains_)}."
    interval = e.saving_static
    told = (
        f"Against static choices of equal score it saves {percent(interval.mean)} of the FLOPs "
        f"({span(interval)} %)"
    )
    if interval.low > 0:
        return f"{told}: deciding per sample pays in FLOPs{_in_time(gains_)}."
    if interval.high < 0:
        more = f"{percent(-interval.mean)} ({percent(-interval.high)} to {percent(-interval.low)})"
        return f"It takes {more} more FLOPs than static choices of equal score. Prefer the static choice."
    return f"{told}: the interval includes zero, so it cannot be told from static choices, which are simpler."


def _in_time(gains_: Mapping[int, float]) -> str:
    """What is known of time, beside a statement on FLOPs."""
    if not gains_:
        return "; its time was not measured"
    slow = [f"batch {batch}" for batch, gain in gains_.items() if gain < 1]
    if not slow:
        return ", and it takes less time than the model as published"
    fast = len(gains_) - len(slow)
    return f", not in time{' at ' + ', '.join(slow) if fast else ''}"


def _full(findings: Findings) -> Answer:
    full = findings.table.full
    score = findings.score(full)
    where = labels.configuration_long(findings.table.configs, full)
    headline = (
        f"{percent(score.mean)} ± {100 * half_width(score):.1f} at {findings.unit.text(findings.full_flops)}"
    )
    return Answer(FULL, headline, f"{where}, on {findings.n_text}.")
