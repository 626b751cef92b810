"""Does a stronger decoder than the linear probe help, at an equal encoder?

    python experiments/dense/decoders.py --start CHECKPOINT --out experiments/dense/decoders.json

Trains one head after another on the frozen features of a checkpoint of `digits-segmentation`: same scenes,
steps and schedule, all axes adaptive, only the head's weights learn. Finished trainings are kept in --runs
and not repeated; interrupted ones go on.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from adapcli.data.dataset import open_dataset
from adapcli.model.checkpoint import load, save
from adapcli.model.flops import executed_flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.training.judging import corner_scores
from adapcli.training.recipe import load_recipe
from adapcli.training.run import train
from policies.files import write_json

NAMES = ("linear", "conv", "conv x2")
CORNERS = ("full", "fewest_tokens", "shallowest", "narrowest", "cheapest")


def decoders(channels: int) -> dict[str, dict[str, Any]]:
    """What each changes of the model. channels: of the first convolution; after doubling half as many."""
    conv = {"decoder": "conv", "decoder_dim": channels}
    return {
        "linear": {"decoder": "linear"},
        "conv": {**conv, "decoder_stages": 0},
        "conv x2": {**conv, "decoder_stages": 1},
    }


def headless(start: Path, seed: int, folder: Path) -> Path:
    """The checkpoint with a head drawn anew: no decoder begins with the one the encoder was trained with."""
    model, path = load(start), folder / f"backbone-seed{seed}.pt"
    torch.manual_seed(seed)
    model.head.load_state_dict(AdaPerceiver(model.config).head.state_dict())
    save(model, path)
    return path


def changes(start: Path, decoder: dict[str, Any], steps: int, seed: int) -> list[str]:
    """What makes the recipe one of a new head on a frozen backbone."""
    model = {"task": "segmentation", **decoder}
    return [
        f"start={start}",
        "train=[head.]",
        f"model={json.dumps(model)}",
        f"stages=[{{name: head, steps: {steps}, axes: [tokens, depth, width]}}]",
        f"seed={seed}",
        "optimiser.warmup_steps=50",
        "optimiser.ema_decay=0.98",
        "evaluate_every=100000",
        "log_every=100",
    ]


def trained(folder: Path, wanted: list[str], scenes: int) -> dict[str, Any]:
    """The corners' metrics of one training, which is made unless it is there."""
    recipe = load_recipe("digits-segmentation", wanted)
    plain, known = recipe.model_dump(mode="json"), folder / "corners.json"
    if known.exists():
        found = json.loads(known.read_text())
        if (found["recipe"], found["scenes"]) == (plain, scenes):
            return dict(found)
    done = train(recipe, folder, resume=True, test_samples=1)  # the whole grid is not needed
    data = open_dataset(
        "digits", split="test", preprocessing=done.model.preprocessing, limit=scenes, task="segmentation"
    )
    scores = corner_scores(done.model, data)
    found = {"recipe": plain, "scenes": scenes, "seconds": done.metrics["seconds"], **scores}
    write_json(known, found)
    return found


def summed_up(runs: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Mean and deviation over seeds, in points; cost of the full configuration and of its readout."""
    model = load(folder / "model.pt")
    config, head = model.config, [p.numel() for n, p in model.named_parameters() if n.startswith("head.")]
    full = executed_flops(config, config.full_configuration)
    corners = {corner: [round(100 * run[f"miou_{corner}"], 2) for run in runs] for corner in CORNERS}
    return {
        "full_flops": full,
        "head_parameters": sum(head),
        "miou": corners,
        "mean": {corner: round(statistics.mean(values), 2) for corner, values in corners.items()},
        "deviation": {corner: round(statistics.stdev(values), 2) for corner, values in corners.items()},
        "seconds": [run["seconds"] for run in runs],
    }


def table(found: dict[str, Any]) -> str:
    titles = ["decoder", "head parameters", "MFLOPs, full", *(c.replace("_", " ") for c in CORNERS)]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for name, entry in found.items():
        scores = [f"{entry['mean'][c]:.1f} ± {entry['deviation'][c]:.1f}" for c in CORNERS]
        cells = [name, f"{entry['head_parameters']:,}", f"{entry['full_flops'] / 1e6:.2f}", *scores]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--start", type=Path, required=True, help="a checkpoint of digits-segmentation")
    parser.add_argument("--runs", type=Path, default=Path("runs/dense"), help="where the trainings are kept")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--channels", type=int, default=16, help="of the first convolution")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="of the decoders")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=1000, help="test scenes")
    parser.add_argument("--out", type=Path, help="write the result here as JSON, and a table beside it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    compared = {name: d for name, d in decoders(options.channels).items() if name in options.only}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in compared}
    folders: dict[str, Path] = {}
    options.runs.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        backbone = headless(options.start, seed, options.runs)
        for name, decoder in compared.items():
            folders[name] = options.runs / f"{name.replace(' ', '-')}-seed{seed}"
            wanted = changes(backbone, decoder, options.steps, seed)
            runs[name].append(trained(folders[name], wanted, options.scenes))
            print(f"{name}, seed {seed}: {100 * runs[name][-1]['miou_full']:.1f} %", flush=True)
    found = {name: summed_up(runs[name], folders[name]) for name in compared}
    print(table(found))
    if options.out:
        asked = {name: getattr(options, name) for name in ("steps", "channels", "scenes")}
        kept = {**asked, "decoders": found}
        options.out.write_text(json.dumps(kept, indent=1) + "\n")
        options.out.with_suffix(".md").write_text(table(found) + "\n")


if __name__ == "__main__":
    main()
