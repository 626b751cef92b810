"""Maps of a few test samples at several configurations, beside picture and target: run for the report."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adapcli.errors import AdapError
from adapcli.report import labels
from adapcli.report.document import Example
from adapcli.report.examples import OtherDataError, from_easy_to_hard, reopened
from adapcli.report.units import percent

if TYPE_CHECKING:
    from adapcli.data.dataset import Dataset
    from adapcli.model.perceiver import AdaPerceiver
    from adapcli.model.preprocessing import Preprocessing
    from adapcli.report.findings import Findings

COUNT = 6
SIDE = 112
"""Pixels of a panel along each side, at least; enlarged without smoothing."""
GAP = 4

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class DrawnMaps:
    """Strips of panels, and the configurations that the maps in them are of, in words."""

    examples: list[Example]
    names: str


def drawn_maps(findings: "Findings") -> DrawnMaps | str:
    """`COUNT` samples from easy to hard, or in a few words why there are none."""
    try:
        model = _model(findings)
        data, preprocessing = reopened(findings)
        scores = findings.table.score[findings.rows]
        places = [int(place) for place in from_easy_to_hard(scores, COUNT)]
        strips = [_strip(findings, model, data, preprocessing, place) for place in places]
    except AdapError as error:
        return f"the model or its data cannot be opened ({error.message})"
    except OtherDataError as error:
        return str(error)
    named = [f"{kind} ({labels.configuration(findings.table.configs, i)})" for kind, i in _shown(findings)]
    return DrawnMaps(strips, ", ".join(named))


def _shown(findings: "Findings") -> list[tuple[str, int]]:
    """The cheapest, the chosen and the full configuration; those that are there, each once."""
    kinds = [("the cheapest", findings.cheapest), ("the chosen", findings.chosen)]
    full = findings.table.full
    found = {index: kind for kind, index in kinds if index is not None and index != full}
    return [*((kind, index) for index, kind in found.items()), ("the full configuration", full)]


def _model(findings: "Findings") -> "AdaPerceiver":
    """The checkpoint that the table was made from. OtherDataError if it is not there any more."""
    from adapcli.model.checkpoint import load
    from adapcli.sweep.fingerprints import checkpoint_fingerprint

    recorded = findings.provenance.get("checkpoint")
    path = recorded.get("path") if isinstance(recorded, dict) else None
    if not isinstance(path, str):
        raise OtherDataError("the run does not say which checkpoint it is of")
    model = load(findings.run.located(path)).eval()
    wanted = findings.table.meta.get("fingerprints", {}).get("checkpoint")
    if checkpoint_fingerprint(model) != wanted or not model.config.is_dense:
        raise OtherDataError(f"{labels.readable(path)} is another checkpoint now")
    return model


def _strip(
    findings: "Findings",
    model: "AdaPerceiver",
    data: "Dataset",
    preprocessing: "Preprocessing",
    place: int,
) -> Example:
    """Picture, target and maps of the sample at `place` of the test split, side by side."""
    from adapcli.data.transforms import denormalise
    from adapcli.evaluation.dense.tasks import dense_task

    row, batch = int(findings.rows[place]), data.batch(place, place + 1)
    if batch.sample_ids[0] != findings.table.samples["sample_id"].iloc[row]:
        raise OtherDataError("the data is not what the table was made from")
    picture = np.rint(255 * np.moveaxis(denormalise(batch.images, preprocessing)[0].numpy(), 0, -1))
    maps = [_answer(findings, model, batch.images, index) for _, index in _shown(findings)]
    task, target = dense_task(model.config, model.preprocessing.size), batch.targets[0].numpy()
    panels = [_coloured(picture), *(task.coloured(drawn, target) for drawn in (target, *maps))]
    shares = [percent(float(findings.table.score[row, index]), 0) for _, index in _shown(findings)]
    lines = [", ".join(shares), *_policies(findings, row)]
    return Example(_png(panels), labels.readable(batch.sample_ids[0]), lines)


def _answer(findings: "Findings", model: "AdaPerceiver", images: Any, index: int) -> NDArray[Any]:
    import torch

    from adapcli.evaluation.dense.tasks import dense_task
    from adapcli.space import Configuration

    chosen = findings.table.configs.iloc[index]
    configuration = Configuration(*(int(chosen[axis]) for axis in ("tokens", "width", "depth")))
    with torch.inference_mode():
        maps = model(images, configuration).maps
    assert maps is not None
    found: NDArray[Any] = dense_task(model.config, model.preprocessing.size).answers(maps)[0].numpy()
    return found


def _coloured(picture: NDArray[Any]) -> Pixels:
    return np.broadcast_to(picture, (*picture.shape[:2], 3)).astype(np.uint8)


def _policies(findings: "Findings", row: int) -> list[str]:
    table = findings.table
    return [
        f"{j.name}: {labels.configuration(table.configs, j.choice(table, row))}" for j in findings.policies
    ]


def _png(panels: list[Pixels]) -> bytes:
    """Panels (H, W, 3) side by side as PNG."""
    from PIL import Image

    factor = -(-SIDE // min(panels[0].shape[:2]))
    large = [panel.repeat(factor, 0).repeat(factor, 1) for panel in panels]
    gap = np.full((large[0].shape[0], GAP, 3), 255, np.uint8)
    joined = [part for panel in large for part in (panel, gap)][:-1]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(joined, 1)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
