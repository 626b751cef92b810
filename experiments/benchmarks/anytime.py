"""What of the FLOPs saved by continuing, stopping and choosing per sample is saved in time and memory?

continue: paths of six steps (token-wise, depth-wise, mixed) of an AnytimeSession to the full configuration,
without readouts, against the direct run to the same latents.
memory: the most that such a session holds at once, against the direct run's most and its own caches.
rows: the rate of a matrix product of few rows; what caching normalised latents, not keys and values,
would add to a step of more tokens.
exits: each image looks after every block and stops; exit depths as in the published oracle data.
choices: each image runs a configuration of its own, drawn from the same data.
Same weights and images, one thread, rounds interleaved.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import routed
import torch

import adapcli
from adapcli.inference.session import AnytimeSession
from adapcli.measure.memory import peak_bytes
from adapcli.model.attention import KeysValues
from adapcli.model.config import ModelConfig
from adapcli.model.flops import session_bytes
from adapcli.model.layers import Block
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.rope import rotation
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


def memory(model: AdaPerceiver, batch: int) -> dict[str, float]:
    """Peak of each path over 1.5 times the direct run's peak plus the caches: at most 1."""
    size, config = model.config.image_size, model.config
    x, full = torch.randn(batch, config.in_channels, size, size), config.full_configuration
    once = peak_bytes(lambda: direct(model, x, full), model.device)
    caches = batch * session_bytes(config, full)
    peaks = {
        n: peak_bytes(lambda p=p: continued(model, x, p), model.device) for n, p in paths(config).items()
    }
    ratios = {name: round(peak / (1.5 * once + caches), 3) for name, peak in peaks.items()}
    return {**ratios, "direct_mib": once >> 20, "caches_mib": caches >> 20}


@torch.inference_mode()
def rows(config: ModelConfig, rounds: int) -> dict[str, dict[str, float]]:
    """Rates of an FFN's first product over that of 256 rows; and one block's last step of the token path."""
    d, hidden, few = config.embed_dim, config.hidden(config.embed_dim), (1, 32, 64, 128)
    weights = [torch.randn(hidden, d) for _ in range(2 * config.depth)]  # as many as a run streams through

    def rate(n: int) -> float:
        x = torch.randn(n, d)
        taken = [
            seconds(lambda: [torch.nn.functional.linear(x, w) for w in weights]) for _ in range(rounds + 1)
        ]
        return n / statistics.median(taken[1:])

    *before, last = config.token_granularities
    old, block = max(before), Block(config, d).eval()
    z, past = torch.randn(4, last, d), torch.randn(4, old, d)
    turn = rotation(last, config.head_dim, theta=config.rope_theta, trained_tokens=last, device=z.device)
    cached = block.extend(past, turn[:, :old], (old,), hidden, None)[1]

    def with_keys() -> None:
        block.extend(z[:, old:], turn[:, old:], (old, last), hidden, cached)

    def with_latents() -> None:
        keys, values = block.attn.project(past, turn[:, :old])[1:]
        block.extend(z[:, old:], turn[:, old:], (old, last), hidden, KeysValues(keys, values))

    times = [(seconds(with_latents), seconds(with_keys)) for _ in range(4 * rounds)]
    dearer = statistics.median(latents / keys for latents, keys in times)
    whole = rate(256)
    return {
        "rate over that of 256 rows": {f"{n} rows": round(rate(n) / whole, 3) for n in few},
        "a step with latents cached over one with keys and values": {"batch 4": round(dearer, 3)},
    }


TINY = {
    "embed_dim": 48, "num_heads": 4, "widths": (12, 24, 48), "image_size": 32, "max_latent_tokens": 24,
    "token_granularities": (4, 8, 12, 16, 20, 24), "num_classes": 10,
}  # fmt: skip
"""As many tokens, widths and depths as the published model: only to see that everything runs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=("published", "packaged", "tiny"), default="published")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16], help="of continue")
    parser.add_argument("--batch", type=int, default=32, help="of exits and choices")
    parser.add_argument("--samples", type=int, default=512, help="of exits and choices")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    result = run(made(arguments.size), arguments)
    if arguments.json:
        print(json.dumps({"schema_version": 2, "size": arguments.size, **result}))
        return
    for part, found in result.items():
        for name, numbers in found.items():
            told = ", ".join(f"{what} {number:.3g}" for what, number in numbers.items())
            print(f"{part}, {name}: {told}")


PARTS = ("continue", "memory", "rows", "exits", "choices")


def made(size: str) -> AdaPerceiver:
    if size == "packaged":
        return adapcli.load(adapcli.packaged())
    return AdaPerceiver(ModelConfig(**({"num_classes": 1000} if size == "published" else TINY))).eval()


def run(model: AdaPerceiver, arguments: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    result: dict[str, dict[str, dict[str, float]]] = {}
    if "continue" in arguments.parts:
        found = {f"batch {batch}": measure(model, batch, arguments.rounds) for batch in arguments.batches}
        result["continued over direct"] = found
    if "memory" in arguments.parts:
        found = {f"batch {batch}": memory(model, batch) for batch in arguments.batches}
        result["peak memory over 1.5 x direct + caches"] = found
    if "rows" in arguments.parts:
        result["products"] = rows(model.config, arguments.rounds)
    routed_parts = [part for part in ("exits", "choices") if part in arguments.parts]
    if routed_parts:
        result["routed"] = routed.report(
            model, routed_parts, samples=arguments.samples, batch=arguments.batch, rounds=arguments.rounds
        )
    return result


if __name__ == "__main__":
    main()
