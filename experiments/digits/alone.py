"""Are the smallest configurations neglected by training all of them at once, or at their capacity?

    python experiments/digits/alone.py --out experiments/digits/alone.json

Trains the cheapest, the fewest-token and the shallowest configuration, each alone, from labels, with the
model, data, batches, steps, learning rates and averaging of the packaged recipe, and sets its accuracy beside
that of the same configuration of the packaged checkpoint, on the same test scenes. Finished trainings are
kept in --runs and not repeated; interrupted ones go on.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import adapcli
from adapcli.space import ConfigSpace, Configuration
from adapcli.training.recipe import load_recipe
from adapcli.training.schema import Recipe

sys.path.insert(0, str(Path(__file__).parents[1]))
from compare import Run


def corners(space: ConfigSpace) -> dict[str, Configuration]:
    """The configurations that a model of all of them might neglect."""
    full = space.full
    return {
        "cheapest": space.cheapest,
        "fewest_tokens": Configuration(space.tokens[0], full.width, full.depth),
        "shallowest": Configuration(full.tokens, full.width, space.depths[0]),
    }


def alone(recipe: Recipe, chosen: Configuration, steps: int) -> tuple[str, ...]:
    """What to change in the packaged recipe for one configuration to have the model to itself."""
    at = f"{{tokens: {chosen.tokens}, width: {chosen.width}, depth: {chosen.depth}}}"
    changes = [f"stages=[{{name: alone, steps: {steps}, at: {at}}}]", "loss={labels: 1.0}", "readouts={}"]
    return (*changes, "teacher=null") if recipe.teacher else tuple(changes)


def beside(training: Run, packaged: dict[str, Any], corner: str) -> dict[str, float]:
    """In per cent: alone, as part of the packaged checkpoint, and the difference in points."""
    metrics = training.metrics
    assert metrics is not None
    if metrics["data"] != packaged["data"] or metrics["samples"] != packaged["samples"]:
        raise SystemExit("the packaged checkpoint was scored on other scenes")
    own, shared = (round(100 * found[f"accuracy_{corner}"], 2) for found in (metrics, packaged))
    return {"alone": own, "packaged": shared, "gain_points": round(own - shared, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the trainings are kept")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, one thread each")
    parser.add_argument("--steps", type=int, help="default: those of the recipe")
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, ())
    steps = arguments.steps or recipe.total_steps
    chosen = corners(recipe.model_for(num_classes=10, in_channels=1).space)
    trainings = {
        name: Run(
            name,
            recipe.seed,
            arguments.recipe,
            alone(recipe, configuration, steps),
            arguments.runs / f"alone-{name}-{steps}",
        )
        for name, configuration in chosen.items()
    }
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(Run.train, trainings.values()))
    packaged = json.loads(adapcli.packaged().with_suffix(".json").read_text())
    result = {name: beside(training, packaged, name) for name, training in trainings.items()}
    text = json.dumps({"steps": steps, "samples": packaged["samples"], **result}, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
