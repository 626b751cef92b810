"""Train the variants of a plan, each with several seeds, and set them side by side.

    python experiments/compare.py experiments/curriculum

Reads FOLDER/plan.yaml: `seeds`, `variants` (name: recipe, changes), `changes` of all. Finished runs are kept
in --runs and not repeated; interrupted ones go on. Writes FOLDER/results.json, table.md and figure.png.
"""

import argparse
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adapcli.report import style
from adapcli.training.recipe import load_recipe

CORNERS = ("full", "fewest_tokens", "shallowest", "narrowest", "cheapest")


@dataclass(frozen=True)
class Run:
    variant: str
    seed: int
    recipe: str
    changes: tuple[str, ...]
    folder: Path

    @property
    def metrics(self) -> dict[str, Any] | None:
        """What the finished run measured; None if it is not finished, or was of another recipe."""
        path = self.folder / "train" / "metrics.json"
        if not path.exists():
            return None
        found = json.loads(path.read_text())
        wanted = load_recipe(self.recipe, self.changes).model_dump(mode="json")
        return found if found["recipe"] == wanted else None

    def train(self) -> None:
        if self.metrics is not None:
            return
        options = [word for change in self.changes for word in ("--set", change)]
        command = [sys.executable, "-m", "adapcli", "train", "--recipe", self.recipe, *options, "--quiet"]
        more = ["--run", str(self.folder), "--device", "cpu", "--threads", "1"]
        state = self.folder / "train" / "state.pt"
        again = "--resume" if state.exists() else "--overwrite"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, *more, again], check=True, stdout=subprocess.DEVNULL, env=environment)
        print(f"{self.variant}, seed {self.seed}: done", flush=True)


def runs(plan: dict[str, Any], folder: Path) -> Iterator[Run]:
    """Seed by seed, so that an interrupted experiment has whole rounds."""
    for seed in plan["seeds"]:
        for name, variant in plan["variants"].items():
            changes = (*plan.get("changes", ()), *variant.get("changes", ()), f"seed={seed}")
            digest = hashlib.sha256(repr(changes).encode()).hexdigest()[:8]
            known = f"{variant['recipe']}-seed{seed}-{digest}"
            yield Run(name, seed, variant["recipe"], changes, folder / known)


def compared(done: list[Run]) -> dict[str, Any]:
    """Per variant: mean and standard deviation over seeds, in per cent, of the grid's corners."""
    found: dict[str, Any] = {}
    for run in done:
        metrics = run.metrics
        assert metrics is not None
        entry = found.setdefault(
            run.variant, {"seeds": [], "seconds": [], **{c: [] for c in CORNERS}, "grid": []}
        )
        entry["seeds"].append(run.seed)
        entry["seconds"].append(metrics["seconds"])
        entry["grid"].append([row["accuracy"] for row in metrics["grid"]])
        for corner in CORNERS:
            entry[corner].append(round(100 * metrics[f"accuracy_{corner}"], 2))
    first = done[0].metrics
    assert first is not None
    costs = [{k: row[k] for k in ("tokens", "width", "depth", "cost_flops")} for row in first["grid"]]
    return {"samples": first["samples"], "configurations": costs, "variants": found}


def table(result: dict[str, Any]) -> str:
    head = ["variant", *(corner.replace("_", " ") for corner in CORNERS), "seconds"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, entry in result["variants"].items():
        cells = [spread(entry[corner]) for corner in CORNERS]
        seconds = f"{statistics.median(entry['seconds']):.0f}"
        lines.append(f"| {' | '.join([name, *cells, seconds])} |")
    seeds = len(next(iter(result["variants"].values()))["seeds"])
    told = (
        f"Accuracy in %, mean ± standard deviation over {seeds} seeds, {result['samples']} test scenes each."
    )
    return "\n".join([*lines, "", told]) + "\n"


def spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


def draw(result: dict[str, Any], path: Path) -> None:
    """The best mean accuracy within each cost, per variant; a band of one standard deviation."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    cost = np.array([c["cost_flops"] for c in result["configurations"]]) / 1e6
    order = np.argsort(cost)
    for (name, entry), colour in zip(result["variants"].items(), style.SERIES, strict=False):
        grid = 100 * np.array(entry["grid"])[:, order]
        mean, deviation = grid.mean(0), grid.std(0, ddof=1)
        front = np.flatnonzero(mean == np.maximum.accumulate(mean))
        axes.plot(cost[order][front], mean[front], color=colour, label=name, marker="o", markersize=3)
        low, high = mean[front] - deviation[front], mean[front] + deviation[front]
        axes.fill_between(cost[order][front], low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("MFLOPs")
    axes.set_ylabel("accuracy, %")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, color=style.FAINT)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds plan.yaml")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    arguments = parser.parse_args()
    plan = yaml.safe_load((arguments.folder / "plan.yaml").read_text())
    todo = list(runs(plan, arguments.runs))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(Run.train, todo))
    result = compared(todo)
    (arguments.folder / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.folder / "table.md").write_text(table(result))
    draw(result, arguments.folder / "figure.png")
    print(table(result))


if __name__ == "__main__":
    main()
