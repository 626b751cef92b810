"""Pictures of the data, from easy to hard, with what was chosen for them."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from adapcli.errors import AdapError
from adapcli.report import labels
from adapcli.report.document import Example
from adapcli.report.units import percent

if TYPE_CHECKING:
    from adapcli.data.dataset import Dataset
    from adapcli.model.preprocessing import Preprocessing
    from adapcli.report.findings import Findings
    from adapcli.report.policies import Judged

COUNT = 10
SMALLEST_SIDE = 96
"""Small pictures are enlarged without smoothing, so that every viewer shows their pixels."""


def examples(findings: "Findings") -> list[Example] | str:
    """`COUNT` samples from easy to hard, or in a few words why there are none."""
    try:
        data, preprocessing = reopened(findings)
        places = from_easy_to_hard(findings.table.score[findings.rows])
        return [_example(findings, data, preprocessing, int(place)) for place in places]
    except AdapError as error:
        return f"the data cannot be opened ({error.message})"
    except OtherDataError as error:
        return str(error)


def spent_on(findings: "Findings", judged: "Judged") -> list[Example] | str:
    """Samples from those a policy spends least on to those it spends most on, or why there are none."""
    assert judged.policy is not None
    try:
        data, preprocessing = reopened(findings)
        cost = judged.policy.select(findings.table, findings.rows).cost_flops
        places = from_cheap_to_dear(cost)
        shown = [_example(findings, data, preprocessing, int(place), [judged]) for place in places]
    except AdapError as error:
        return f"the data cannot be opened ({error.message})"
    except OtherDataError as error:
        return str(error)
    paid = [(float(cost[place]), float((cost == cost[place]).mean())) for place in places]
    spent = [
        f"{findings.unit.number(each)} {findings.unit.name}, as {percent(share, 0)}" for each, share in paid
    ]
    return [replace(e, lines=[told, *e.lines]) for e, told in zip(shown, spent, strict=True)]


def from_cheap_to_dear(cost: NDArray[np.float64], count: int = COUNT) -> NDArray[np.intp]:
    """Positions in `cost` (n,), cheapest first: of every amount that is spent, or of `count` of them at even
    steps, the same number as far as possible, at even steps of their order."""
    levels = np.unique(cost)
    levels = levels[np.unique(np.linspace(0, len(levels) - 1, count).round().astype(int))]
    shares = np.diff(np.linspace(0, count, len(levels) + 1).round().astype(int))
    found = []
    for level, share in zip(levels, shares, strict=True):
        group = np.flatnonzero(cost == level)
        steps = (np.arange(share) + 0.5) * len(group) / max(share, 1)
        found.append(group[np.unique(steps.astype(int))])
    return np.concatenate(found)


class OtherDataError(Exception):
    """Why the data is not what the table was made from."""


def from_easy_to_hard(score: NDArray[np.float32], count: int = COUNT) -> NDArray[np.intp]:
    """Rows of `score` (n, C) at even steps of their mean over configurations, highest first."""
    order = np.argsort(-np.asarray(score).mean(1, dtype=np.float64), kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))
    return np.asarray(order[places], np.intp)


def reopened(findings: "Findings") -> "tuple[Dataset, Preprocessing]":
    """The test split; OtherDataError if it is another now, or what the table says of it makes no sense."""
    try:
        data, preprocessing = _open(findings)
    except (AttributeError, TypeError, ValueError) as error:
        raise OtherDataError("the table does not say what data it was made from") from error
    if len(data) != len(findings.rows):
        raise OtherDataError(f"the data has {len(data)} test samples now, the table {len(findings.rows)}")
    return data, preprocessing


def _open(findings: "Findings") -> "tuple[Dataset, Preprocessing]":
    """The test split as the sweep opened it."""
    from adapcli.data.dataset import open_dataset
    from adapcli.model.preprocessing import Preprocessing

    meta = findings.table.meta
    facts, stored = meta.get("data"), meta.get("preprocessing")
    if not isinstance(facts, dict) or not isinstance(stored, dict) or "name" not in facts:
        raise OtherDataError("the table does not say what data it was made from")
    preprocessing = Preprocessing.from_dict(stored, len(stored.get("mean", ())))
    data = open_dataset(
        findings.run.reopened(facts),
        split="test",
        preprocessing=preprocessing,
        limit=(facts.get("limits") or {}).get("test"),
        class_names=meta.get("class_names"),
        task=meta.get("task") or "classification",
    )
    return data, preprocessing


def _example(
    findings: "Findings",
    data: "Dataset",
    preprocessing: "Preprocessing",
    place: int,
    policies: "Sequence[Judged] | None" = None,
) -> Example:
    """The sample at `place` of the test split, and what these policies, or all of the run, did with it."""
    from adapcli.data.transforms import denormalise

    row = int(findings.rows[place])
    batch = data.batch(place, place + 1)
    if batch.sample_ids[0] != findings.table.samples["sample_id"].iloc[row]:
        raise OtherDataError("the data is not what the table was made from")
    names = [str(name) for name in findings.table.meta.get("class_names", [])]
    target = int(findings.table.samples["target"].iloc[row])
    share = float(np.mean(findings.table.score[row]))
    shown = findings.policies if policies is None else policies
    known = findings.table.labelled
    told = f"right in {percent(share, 0)}" if known else f"as full in {percent(share, 0)}"
    lines = [told, *_answers(findings, row, names, shown)]
    pixels = denormalise(batch.images, preprocessing)[0].numpy()
    return Example(_png(pixels), _class_name(names, target) if known else "no label", lines)


def _answers(findings: "Findings", row: int, names: list[str], policies: "Sequence[Judged]") -> list[str]:
    """What each policy ran for the sample, and whether its answer was right, or as full without labels."""
    table, lines = findings.table, []
    for judged in policies:
        index = judged.choice(table, row)
        line = f"{judged.name}: {labels.configuration(table.configs, index)}"
        if table.prediction is not None:
            answer = _class_name(names, int(table.prediction[row, index]))
            line += " ✓" if table.score[row, index] > 0 else f" ✗ {answer}"
        lines.append(line)
    return lines


def _class_name(names: list[str], target: int) -> str:
    return names[target] if 0 <= target < len(names) else str(target)


def _png(pixels: NDArray[np.float32]) -> bytes:
    """(C, H, W) in [0, 1] -> bytes of a PNG."""
    from PIL import Image

    levels = np.rint(255 * np.moveaxis(pixels, 0, -1)).astype(np.uint8)
    image = Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
    factor = -(-SMALLEST_SIDE // min(image.size))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
