"""What one pass per width saves, against running every configuration by itself.

Same weights, images and thread for both, in one run; both score what they compute. Times are processor
seconds of the one thread, so that other work on the machine disturbs less; the sweep is timed several times
between parts of the rival's loop. The limit is the ratio of executed FLOPs: the loop's, which reads out in
the plain form, over the sweep's. `--subset N` times every Nth configuration and scales its seconds by FLOPs,
for a quick look.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import adapcli
from adapcli.data.dataset import Batch
from adapcli.evaluation.passes import GridPass, Pass, pass_flops
from adapcli.measure.device import peak_memory_bytes
from adapcli.model.flops import flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from adapcli.sweep.samples import Samples
from adapcli.sweep.scoring import outcomes, score_batch
from adapcli.sweep.sweep import Sweep

PARTS = 6


class TimedReadouts(GridPass):
    """Knows how many seconds its readouts took."""

    seconds = 0.0

    def _read(self, p: Pass, stack: list[Tensor], prefixes: tuple[int, ...]) -> Tensor:
        start = time.process_time()
        logits = super()._read(p, stack, prefixes)
        self.seconds += time.process_time() - start
        return logits


def model_of(size: str) -> AdaPerceiver:
    if size == "packaged":
        return adapcli.load(adapcli.packaged())
    torch.manual_seed(0)
    return AdaPerceiver(adapcli.ModelConfig(num_classes=1000)).eval()


def batch_of(model: AdaPerceiver, size: str, count: int) -> Batch:
    if size == "packaged":
        return Samples.open("digits", model.preprocessing).splits["test"].batch(0, count)
    images = torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.zeros(count, dtype=torch.long), [str(i) for i in range(count)])


@torch.inference_mode()
def loop_seconds(model: AdaPerceiver, configurations: Sequence[Configuration], batch: Batch) -> float:
    """The rival: a forward pass per configuration, scored."""
    start = time.process_time()
    for configuration in configurations:
        outcomes(model(batch.images, configuration).logits, batch.targets)
    return time.process_time() - start


def pass_seconds(grid: TimedReadouts, batch: Batch, repeats: int) -> tuple[float, float]:
    """Seconds of scoring the batch in all configurations, and of the readouts in it."""
    grid.seconds, start = 0.0, time.process_time()
    for _ in range(repeats):
        score_batch(grid, batch, full=grid.n_configs - 1)
    return (time.process_time() - start) / repeats, grid.seconds / repeats


def loop_flops(model: AdaPerceiver, configurations: Sequence[Configuration]) -> int:
    """What the loop executes on one sample: plain readouts, attention group by group."""
    size = model.preprocessing.size
    return sum(flops(model.config, c, size, readout="plain", attention="block") for c in configurations)


def compare(model: AdaPerceiver, batch: Batch, subset: int) -> dict[str, object]:
    configurations = list(model.config.space)
    timed = configurations[::subset]
    grid = TimedReadouts(model, configurations)
    repeats = 1 if model.config.embed_dim > 256 else 10
    pass_seconds(grid, batch, 1)
    loop_seconds(model, timed[:1], batch)
    looped, passes = 0.0, []
    for part in range(PARTS):
        looped += loop_seconds(model, timed[part::PARTS], batch)
        passes.append(pass_seconds(grid, batch, repeats))
    whole = loop_flops(model, configurations)
    looped *= whole / loop_flops(model, timed)
    sweep, readouts = (statistics.median(column) for column in zip(*passes, strict=True))
    limit = whole / pass_flops(model.config, grid.passes, model.preprocessing.size)
    return {
        "batch": len(batch.images),
        "configurations": len(configurations),
        "timed_configurations": len(timed),
        "loop_seconds": round(looped, 3),
        "sweep_seconds": round(sweep, 4),
        "ratio": round(looped / sweep, 2),
        "limit": round(limit, 2),
        "share_of_limit": round(looped / sweep / limit, 3),
        "readout_share": round(readouts / sweep, 4),
    }


def readout_share(model: AdaPerceiver, batch: Batch, repeats: int) -> float:
    """The part of a sweep's time that all readouts take, at another batch size."""
    grid = TimedReadouts(model, list(model.config.space))
    pass_seconds(grid, batch, 1)
    shares = [readouts / total for total, readouts in (pass_seconds(grid, batch, 1) for _ in range(repeats))]
    return round(statistics.median(shares), 4)


def peak_memory(samples: int) -> int:
    """Most memory in bytes that a process of its own needs to sweep the packaged model over `samples`."""
    command = [sys.executable, __file__, "--sweep-only", str(samples)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(ended.stdout)


def sweep_only(count: int) -> None:
    torch.set_num_threads(1)
    model = adapcli.load(adapcli.packaged())
    samples = Samples.open("digits", model.preprocessing, limit=count)
    with tempfile.TemporaryDirectory() as folder:
        Sweep(model, samples, model.config.space).run(Path(folder) / "table")
        print(peak_memory_bytes())


def measure(options: argparse.Namespace) -> dict[str, object]:
    model = model_of(options.size)
    count = options.batch or (1 if options.size == "published" else 64)
    found = compare(model, batch_of(model, options.size, count), options.subset)
    if options.size == "published":
        found["readout_share_batch_4"] = readout_share(model, batch_of(model, options.size, 4), 3)
    if options.samples:
        peaks = [peak_memory(n) for n in (options.samples, 4 * options.samples)]
        found |= {
            "samples": options.samples,
            "peak_bytes": peaks,
            "peak_ratio": round(peaks[1] / peaks[0], 3),
        }
    return {"schema_version": 1, "size": options.size, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["published", "packaged"], default="packaged")
    parser.add_argument("--batch", type=int, help="samples at once (1 published, 64 packaged)")
    parser.add_argument("--subset", type=int, default=1, help="time every Nth configuration of the loop")
    parser.add_argument(
        "--samples", type=int, default=2000, help="for the peak memory at N and 4 N; 0: not measured"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sweep-only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.sweep_only:
        return sweep_only(options.sweep_only)
    found = measure(options)
    if options.json:
        return print(json.dumps(found))
    for name, value in found.items():
        print(f"{name:>24}  {value}")


if __name__ == "__main__":
    main()
