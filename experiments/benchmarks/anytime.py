"""What does continuing a run cost against running its last configuration directly?

Paths of six steps (token-wise, depth-wise, mixed) of an AnytimeSession to the full configuration, without
readouts, against the direct run to the same latents. Same weights and images, one thread, rounds interleaved.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

import adapcli
from adapcli.inference.session import AnytimeSession
from adapcli.model.config import ModelConfig
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration

Path = list[tuple[int, int]]


def paths(config: ModelConfig) -> dict[str, Path]:
    """Six steps each; the last is the full configuration."""
    tokens, full = config.token_granularities, config.full_configuration
    steps = [tokens[round(i * (len(tokens) - 1) / 5)] for i in range(6)]
    depths = [max(1, round(full.depth * (i + 1) / 6)) for i in range(6)]
    return {
        "tokens": [(t, full.depth) for t in steps],
        "depth": [(full.tokens, depth) for depth in depths],
        "mixed": list(zip(steps, depths, strict=True)),
    }


@torch.inference_mode()
def direct(model: AdaPerceiver, x: torch.Tensor, reached: Configuration) -> None:
    plan = model.plan(reached, len(x))
    for _ in model.states(model.read(model.embed(x), reached.tokens), plan):
        pass


@torch.inference_mode()
def continued(model: AdaPerceiver, x: torch.Tensor, path: Path) -> None:
    session = AnytimeSession(model, x, width=model.full_configuration.width)
    for tokens, depth in path:
        session.extend(tokens=tokens, depth=depth)


def seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(model: AdaPerceiver, batch: int, rounds: int) -> dict[str, float]:
    """Ratio of medians, continued over direct, per kind of path."""
    size, config = model.config.image_size, model.config
    x = torch.randn(batch, config.in_channels, size, size)
    calls = {"direct": lambda: direct(model, x, config.full_configuration)}
    for name, path in paths(config).items():
        calls[name] = lambda path=path: continued(model, x, path)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            times[name].append(seconds(call))
    medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}
    return {name: round(medians[name] / medians["direct"], 3) for name in calls if name != "direct"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("published", "packaged"), default="published")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.size == "published":
        model = AdaPerceiver(ModelConfig(num_classes=1000)).eval()
    else:
        model = adapcli.load(adapcli.packaged())
    result = {str(batch): measure(model, batch, arguments.rounds) for batch in arguments.batches}
    if arguments.json:
        print(json.dumps({"schema_version": 1, "size": arguments.size, "continued_over_direct": result}))
        return
    for batch, ratios in result.items():
        told = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in ratios.items())
        print(f"batch {batch}: continued over direct: {told}")


if __name__ == "__main__":
    main()
