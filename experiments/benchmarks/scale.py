"""Does a sweep's time grow with the samples and its memory not; and what does a second process save?

Three numbers of samples, each in a process of its own: seconds per sample and peak memory against the
smallest, and what `sweep --dry-run` foretold against what came. Then the largest number by one process and by
several (torchrun, one thread each), in turns: their speed-up in elapsed time, which needs as many free cores.
Elapsed and processor seconds are told, and the load: on a busy machine only the latter compare.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import adapcli
from adapcli.distributed.group import Group
from adapcli.distributed.joined import joined
from adapcli.measure.device import peak_memory_bytes
from adapcli.sweep.estimate import estimate
from adapcli.sweep.samples import Samples
from adapcli.sweep.sweep import Sweep


def sweep_of(samples: int) -> Sweep:
    """The packaged model on so many scenes, shared out as usual."""
    model = adapcli.load(adapcli.packaged())
    shares = (12 * samples // 44, 4 * samples // 44, 8 * samples // 44)
    sizes = ":".join(map(str, (*shares, samples - sum(shares))))
    return Sweep(model, Samples.open("digits", model.preprocessing, split_by=sizes), model.config.space)


def one(samples: int, folder: Path, group: Group) -> dict[str, float]:
    """Sweep into `folder`: what it took from the moment that all processes are ready."""
    torch.set_num_threads(1)
    job = sweep_of(samples)
    foretold = estimate(job)
    group.barrier()
    start, worked = time.perf_counter(), time.process_time()
    job.run(folder, group=group)
    seconds = time.perf_counter() - start
    worked = float(group.sum(torch.tensor(time.process_time() - worked, dtype=torch.float64)))
    return {
        "samples": samples,
        "seconds": seconds,
        "processor_seconds": worked,
        "foretold_seconds": foretold.seconds,
        "peak_bytes": peak_memory_bytes(),
        "foretold_bytes": foretold.memory_bytes,
        "disk_bytes": sum(path.stat().st_size for path in folder.rglob("*")),
        "foretold_disk_bytes": foretold.disk_bytes,
    }


def only(samples: int, folder: Path) -> None:
    with joined() as group:
        found = one(samples, folder, group)
        if group.first:
            print(json.dumps(found))


def measured(samples: int, processes: int) -> dict[str, float]:
    """The same in processes of their own."""
    torchrun = [
        str(Path(sys.executable).parent / "torchrun"),
        "--standalone",
        f"--nproc-per-node={processes}",
    ]
    launcher = [sys.executable] if processes == 1 else torchrun
    folder = tempfile.mkdtemp()
    command = [*launcher, __file__, "--only", str(samples), "--folder", f"{folder}/table"]
    try:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        ended = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment, cwd=Path.cwd()
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return dict(json.loads(ended.stdout))


def growth(sizes: list[int]) -> dict[str, object]:
    runs = [measured(size, 1) for size in sizes]
    paces = [run["processor_seconds"] / run["samples"] for run in runs]
    return {
        "samples": sizes,
        "processor_ms_per_sample": [round(1000 * pace, 4) for pace in paces],
        "pace_ratio": [round(pace / paces[0], 3) for pace in paces],
        "peak_mib": [round(run["peak_bytes"] / 2**20, 1) for run in runs],
        "peak_ratio": [round(run["peak_bytes"] / runs[0]["peak_bytes"], 3) for run in runs],
        "seconds_over_foretold": [round(run["seconds"] / run["foretold_seconds"], 3) for run in runs],
        "peak_over_foretold": [round(run["peak_bytes"] / run["foretold_bytes"], 3) for run in runs],
        "disk_over_foretold": [round(run["disk_bytes"] / run["foretold_disk_bytes"], 3) for run in runs],
    }


def speed_up(samples: int, processes: int, rounds: int) -> dict[str, object]:
    alone, shared = [], []
    for _ in range(rounds):
        alone.append(measured(samples, 1)["seconds"])
        shared.append(measured(samples, processes)["seconds"])
    ratios = [a / b for a, b in zip(alone, shared, strict=True)]
    return {
        "processes": processes,
        "shared_samples": samples,
        "alone_s": [round(seconds, 2) for seconds in alone],
        "shared_s": [round(seconds, 2) for seconds in shared],
        "speed_up": round(statistics.median(ratios), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, nargs=3, default=[4000, 16000, 64000])
    parser.add_argument("--processes", type=int, default=2, help="0: the growth alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        return only(options.only, options.folder)
    found = {"schema_version": 1, "load": [round(load, 1) for load in os.getloadavg()]}
    found |= growth(options.samples)
    if options.processes:
        found |= speed_up(options.samples[-1], options.processes, options.rounds)
    if options.json:
        return print(json.dumps(found))
    for name, value in found.items():
        print(f"{name:>24}  {value}")


if __name__ == "__main__":
    main()
