"""What to do, in a few lines."""

from adapcli.report import labels
from adapcli.report.document import Answer
from adapcli.report.findings import Findings
from adapcli.report.policies import Evaluated
from adapcli.report.sections.search import target_text
from adapcli.report.units import half_width, part, percent, points, span


def answers(findings: Findings) -> list[Answer]:
    """The static choice, the best policy, and what they are measured against."""
    return [_static(findings), _policy(findings), _full(findings)]


def _static(findings: Findings) -> Answer:
    label, search = "STATIC CHOICE", findings.search
    if search is None or search.choice is None:
        command = findings.command("search --flops-target 0.7")
        return Answer(label, "Not chosen yet", f"{command} chooses the best configuration within a budget.")
    choice, score = search.choice, search.choice.test_score
    where = labels.configuration_long(findings.table.configs, choice.index)
    reached = f"{percent(score.mean)} ± {100 * half_width(score):.1f}"
    headline = f"Run {where}: {reached} at {part(choice.cost_fraction)} of full"
    cost = findings.unit.text(float(findings.table.cost_flops[choice.index]))
    numbers = f"{cost} per sample"
    if search.score_change is not None:
        change = search.score_change
        numbers += (
            f"; {points(change.mean)} points ({points(change.low)} to {points(change.high)}) against full"
        )
    note = (
        f"Chosen on {labels.number(search.n_calibration)} calibration samples for {target_text(search)}; "
        f"reported on {labels.number(search.n_test)} test samples, with 95 % intervals."
    )
    return Answer(label, headline, numbers, [note])


def _policy(findings: Findings) -> Answer:
    best = findings.best_policy
    if best is None:
        command = findings.command("train-policy --algo threshold")
        return Answer("PER-SAMPLE POLICY", "Not trained yet", f"{command} trains one on the same table.")
    headline = (
        f"Policy {best.name}: {percent(best.score.mean)} ± {100 * half_width(best.score):.1f} at "
        f"{part(best.cost_flops / findings.full_flops)} of full"
    )
    numbers = (
        f"Saves {percent(best.saving_full.mean)} of the full configuration's cost; "
        f"{points(best.change.mean)} points ({points(best.change.low)} to {points(best.change.high)}) "
        "against full"
    )
    return Answer("PER-SAMPLE POLICY", headline, numbers, _against_static(findings, best))


def _against_static(findings: Findings, best: Evaluated) -> list[str]:
    saved = best.saving_static
    if saved is None:
        return ["No static choice is as accurate, so there is no static cost to compare with."]
    told = f"Against static choices of equal accuracy it saves {percent(saved.mean)} ({span(saved)} %)"
    if saved.low > 0:
        verdict = ": running it per sample pays."
    elif saved.high < 0:
        verdict = ": it costs more than a static choice. Prefer the static choice."
    else:
        verdict = ": the interval includes zero, so the static choice is as good and simpler."
    notes = [told + verdict]
    if len(findings.policies) > 1:
        count = len(findings.policies)
        notes.append(
            f"The best of {count} policies on the split it is reported on: its saving is slightly flattered."
        )
    return notes


def _full(findings: Findings) -> Answer:
    full = findings.table.full
    score = findings.score(full)
    where = labels.configuration_long(findings.table.configs, full)
    headline = (
        f"{percent(score.mean)} ± {100 * half_width(score):.1f} at {findings.unit.text(findings.full_flops)}"
    )
    return Answer("FULL CONFIGURATION, FOR COMPARISON", headline, f"{where}, on {findings.n_text}.")
