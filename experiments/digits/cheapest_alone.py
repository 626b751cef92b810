"""Is the cheapest configuration neglected by training all of them at once, or at its capacity?

Trains the cheapest configuration alone, with the steps, batches and optimiser of the packaged recipe, and
scores it on the same test scenes as the packaged checkpoint's cheapest configuration.
"""

import argparse
import json
from pathlib import Path

import torch

import adapcli
from adapcli.data.digits import DigitsDataset
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from adapcli.training.losses import Targets
from adapcli.training.objective import Pass, pass_losses
from adapcli.training.optimisation import learning_rate, parameter_groups
from adapcli.training.recipe import load_recipe
from adapcli.training.schema import Loss, Readouts, Recipe
from adapcli.training.source import open_source
from adapcli.training.start import start


def train_alone(recipe: Recipe, chosen: Configuration, steps: int) -> AdaPerceiver:
    packaged = adapcli.load(adapcli.packaged())
    model = start(recipe, open_source(recipe)).model
    averaged = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    options = recipe.optimiser
    optimiser = torch.optim.AdamW(
        parameter_groups(model, options.weight_decay), lr=options.learning_rate, betas=options.betas
    )
    scenes = DigitsDataset("train", packaged.preprocessing, size=steps * recipe.batch, seed=recipe.seed)
    alone = Pass(chosen, None, (chosen.tokens,))
    for step in range(steps):
        batch = scenes.batch(step * recipe.batch, (step + 1) * recipe.batch)
        losses = pass_losses(model, batch.images, Targets(batch.targets), alone, Loss(), Readouts())
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, recipe)
        optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(
            [p for p in model.parameters() if p.grad is not None], options.clip_norm
        )
        optimiser.step()
        torch._foreach_lerp_(
            list(averaged.values()), list(model.state_dict().values()), 1 - options.ema_decay
        )
    model.load_state_dict(averaged)
    return model.eval()


@torch.no_grad()
def accuracy(model: AdaPerceiver, chosen: Configuration, samples: int) -> float:
    scenes, hits = DigitsDataset("test", model.preprocessing, size=samples), 0
    for first in range(0, samples, 256):
        batch = scenes.batch(first, min(first + 256, samples))
        hits += int((model(batch.images, chosen).logits.argmax(-1) == batch.targets).sum())
    return hits / samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, help="default: those of the recipe")
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe, packaged = load_recipe("digits"), adapcli.load(adapcli.packaged())
    chosen = packaged.config.space.cheapest
    alone = train_alone(recipe, chosen, arguments.steps or recipe.total_steps)
    result = {
        "configuration": str(chosen),
        "samples": arguments.samples,
        "accuracy_alone": accuracy(alone, chosen, arguments.samples),
        "accuracy_packaged": accuracy(packaged, chosen, arguments.samples),
    }
    result["gain_points"] = round(100 * (result["accuracy_alone"] - result["accuracy_packaged"]), 2)
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
