"""How predictions look: a csv line each, or an object of JSON; and what their summary says."""

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapcli.commands.units import flops_text, percent_text, seconds_text
from adapcli.console import Console

if TYPE_CHECKING:
    from adapcli.inference.maps import MapFolder
    from adapcli.inference.predict import Prediction, Tally
    from adapcli.model.perceiver import AdaPerceiver

MOST_TOLD = 10
FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True)
class Layout:
    """Predictions as text. class_names: the model's, or none; top: how many classes of each."""

    class_names: Sequence[str]
    top: int = 1

    @property
    def columns(self) -> list[str]:
        """The header of the csv."""
        more = [
            f"{name}_{k}" for k in range(2, self.top + 1) for name in ("class", "class_name", "confidence")
        ]
        return ["path", "class", "class_name", "confidence", "tokens", "width", "depth", "cost_flops", *more]

    def line(self, prediction: "Prediction") -> str:
        """One line of csv, whatever is in the path; classes beyond the first follow the cost."""
        found = [
            [number, cell(self._name(number) or ""), f"{confidence:.6g}"]
            for number, confidence in zip(prediction.classes, prediction.confidences, strict=True)
        ]
        c = prediction.configuration
        how = [c.tokens, c.width, c.depth, prediction.cost_flops]
        return csv_line([path_cell(prediction.path), *found[0], *how, *chain.from_iterable(found[1:])])

    def record(self, prediction: "Prediction") -> dict[str, Any]:
        """The same for JSON, names as they are."""
        found = [
            {"class": number, "class_name": self._name(number), "confidence": confidence}
            for number, confidence in zip(prediction.classes, prediction.confidences, strict=True)
        ]
        c = prediction.configuration
        return {
            "path": text(prediction.path),
            **found[0],
            "tokens": c.tokens,
            "width": c.width,
            "depth": c.depth,
            "cost_flops": prediction.cost_flops,
            **({"top": found} if self.top > 1 else {}),
        }

    def _name(self, number: int) -> str | None:
        return self.class_names[number] if self.class_names else None


@dataclass(frozen=True)
class MapLayout:
    """Maps as text: where the map of each picture is, and what it says about itself."""

    maps: "MapFolder | None"
    told: Sequence[str]

    @property
    def columns(self) -> list[str]:
        """The header of the csv."""
        return ["path", "map", *self.told, "tokens", "width", "depth", "cost_flops"]

    def line(self, prediction: "Prediction") -> str:
        """One line of csv. Writes the map."""
        c, sure = prediction.configuration, [f"{value:.6g}" for value in prediction.confidences]
        how = [c.tokens, c.width, c.depth, prediction.cost_flops]
        return csv_line([path_cell(prediction.path), path_cell(self._map(prediction)), *sure, *how])

    def record(self, prediction: "Prediction") -> dict[str, Any]:
        """The same for JSON; the map is written by `line`."""
        c = prediction.configuration
        return {
            "path": text(prediction.path),
            "map": text(str(self.maps.last)) if self.maps else None,
            **dict(zip(self.told, prediction.confidences, strict=True)),
            "tokens": c.tokens,
            "width": c.width,
            "depth": c.depth,
            "cost_flops": prediction.cost_flops,
        }

    def _map(self, prediction: "Prediction") -> str:
        if self.maps is None or prediction.drawn is None:
            return ""
        return str(self.maps.write(prediction.path, prediction.drawn))


def layout_of(
    model: "AdaPerceiver",
    top: int,
    maps: Path | None,
    pictures: Sequence[str],
    *,
    summary_only: bool,
    overwrite: bool,
) -> "Layout | MapLayout":
    """How predictions are told; UsageError unless a dense model, and it alone, is told where maps go."""
    from adapcli.errors import UsageError
    from adapcli.evaluation.dense.tasks import dense_task
    from adapcli.inference.maps import MapFolder, check_folder

    task = model.config.task
    if not model.config.is_dense:
        if maps is not None:
            raise UsageError(f"--maps: this checkpoint is for {task}", "it draws none")
        return Layout(model.class_names, top)
    told = dense_task(model.config, model.preprocessing.size).told
    if maps is None:
        if not summary_only:
            raise UsageError(
                f"this checkpoint is for {task}: where do its maps go?", "--maps DIR, or --summary"
            )
        return MapLayout(None, told)
    check_folder(maps, pictures, overwrite=overwrite)
    return MapLayout(MapFolder(maps, model), told)


def csv_line(cells: Sequence[object]) -> str:
    """Values as one line of csv, without its end."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(cells)
    return buffer.getvalue()


def text(path: str) -> str:
    """A path as text: bytes that are not UTF-8 are written as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def path_cell(path: str) -> str:
    """A path that still opens, on one line; one that a spreadsheet would compute begins with ./ instead."""
    shown = _on_one_line(text(path))
    return f"./{shown}" if shown.startswith(FORMULA) else shown


def cell(name: str) -> str:
    """Text on one line; a quote before what a spreadsheet would compute: it may come from a stranger."""
    shown = _on_one_line(name)
    return f"'{shown}" if shown.startswith(FORMULA) and not _is_number(shown) else shown


def _on_one_line(name: str) -> str:
    """Control characters, line ends among them, as escapes: they can drive neither terminal nor reader."""
    return "".join(ascii(c)[1:-1] if _is_control(c) else c for c in name)


def _is_control(c: str) -> bool:
    """Below a space, from 0x7f to 0x9f, line and paragraph separators, halves of surrogate pairs."""
    return c < " " or "\x7f" <= c <= "\x9f" or c in "\u2028\u2029" or "\ud800" <= c <= "\udfff"


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


@contextmanager
def destination(console: Console, output: Path | None, *, shown: bool) -> Iterator[Callable[[str], None]]:
    """Where lines go: a file that appears when all is well, else stdout if `shown`."""
    if output is None:
        yield console.write if shown else lambda line: None
        return
    from policies.files import atomic_file

    with atomic_file(output) as file:

        def write(line: str) -> None:
            file.write(f"{line}\n".encode("utf-8", "backslashreplace"))

        yield write


def summary(tally: "Tally", model: "AdaPerceiver") -> dict[str, Any]:
    """The run as a whole, for JSON. Seconds are from the first picture asked for to the last answer."""
    from adapcli.model.flops import executed_flops

    n, seconds, side = tally.predicted, tally.seconds, model.preprocessing.size
    full_cost_flops = executed_flops(model.config, model.full_configuration, side)
    return {
        "images": n,
        "skipped": len(tally.skipped),
        "seconds": seconds,
        "waiting_seconds": tally.waiting_s,
        "images_per_s": n / seconds if seconds else None,
        "mean_cost_flops": tally.cost_flops / n,
        "full_cost_flops": full_cost_flops,
        sureness(model): tally.confidence / n,
        "near_decisions": tally.near,
        "over_budget": tally.over_budget,
        "configurations": [
            {"tokens": c.tokens, "width": c.width, "depth": c.depth, "images": count}
            for c, count in tally.configurations.most_common()
        ],
    }


def sureness(model: "AdaPerceiver") -> str:
    """What the mean over pictures of how sure an answer is, is called."""
    return _sureness().get(model.config.task, "mean_confidence")


def _sureness() -> dict[str, str]:
    """By task, if not as that of classes."""
    from adapcli.evaluation.dense.tasks import TASKS

    return {name: task.told[0] for name, task in TASKS.items()}


def show_summary(console: Console, found: dict[str, Any]) -> None:
    """The summary for people, on stdout."""
    mean, full = found["mean_cost_flops"], found["full_cost_flops"]
    names = dict.fromkeys(["mean_confidence", *_sureness().values()])
    console.table(
        ["what", "value"],
        [
            ["images", found["images"]],
            ["skipped", found["skipped"]],
            [
                "time",
                f"{seconds_text(found['seconds'])}, {seconds_text(found['waiting_seconds'])} of it reading",
            ],
            ["throughput", f"{found['images_per_s']:.4g} images/s"],
            ["mean cost", f"{flops_text(mean)}, {percent_text(mean / full)} of the full configuration"],
            *([name.replace("_", " "), percent_text(found[name])] for name in names if name in found),
            ["decisions near a threshold", found["near_decisions"]],
            ["stopped by --max-flops", found["over_budget"]],
        ],
    )
    console.table(
        ["configuration", "images"],
        [
            [f"t{c['tokens']} w{c['width']} l{c['depth']}", c["images"]]
            for c in found["configurations"][:MOST_TOLD]
        ],
    )


def tell_skipped(console: Console, tally: "Tally") -> None:
    """The first few by name, and how many there are."""
    if not tally.skipped:
        return
    for path, reason in tally.skipped[:MOST_TOLD]:
        console.warn(f"skipped {text(path)}: {reason}")
    more = len(tally.skipped) - MOST_TOLD
    if more > 0:
        console.warn(f"and {more} more; --json lists all")
