"""Everything that wants a GPU, in one command: tests, and what the sweep, sessions and executors save there.

(Not named cuda.py: NVIDIA's package `cuda`, which torch imports, would not be found beside it.)

tests: the tests marked `cuda`, on the device.
sweep: one pass per width over all configurations, against running each by itself.
anytime: continuing a run in six steps, against running its last configuration directly.
routed: images that stop, or choose, each for itself, against what their FLOPs promise.
attention: three ways to execute the block mask.
models: see rivals.py.

All but `models` run as a user's runs do: float32 weights and, with --dtype bfloat16, autocast. Rounds of what
is compared are interleaved, and medians told. `--markdown` prints what RESULTS.md keeps.
"""

import argparse
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import anytime
import attention
import numpy as np
import oracle
import rivals
import routed
import torch

from adapcli import __version__
from adapcli.errors import AdapError
from adapcli.evaluation.passes import GridPass
from adapcli.measure.device import describe, resolve
from adapcli.measure.latency import Stopwatch, synchroniser
from adapcli.model.compilation import compile_blocks
from adapcli.model.config import ModelConfig
from adapcli.model.flops import flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.model.precision import autocast, dtype_name, resolve_dtype
from adapcli.space import Configuration

Row = dict[str, Any]
TINY = anytime.TINY | {"depth": 3}
LEAVES = 0.3
"""Share of images that stop after each block, where the published oracle's exits are not at hand."""


def made(size: str) -> AdaPerceiver:
    """The published model with random weights, or a tiny one of few blocks, quick to compile."""
    torch.manual_seed(0)
    return anytime.made(size) if size == "published" else AdaPerceiver(ModelConfig(**TINY)).eval()


class Setting(argparse.Namespace):
    """The command line, and what follows from it."""

    device: torch.device
    dtype: torch.dtype
    compiled: bool

    @property
    def stopwatch(self) -> Stopwatch:
        return Stopwatch(rounds=self.rounds, synchronise=synchroniser(self.device))

    def model(self) -> AdaPerceiver:
        model = made(self.size).to(self.device)
        return compile_blocks(model) if self.compiled else model

    def images(self, model: AdaPerceiver, count: int) -> torch.Tensor:
        side = model.config.image_size
        return torch.randn(count, model.config.in_channels, side, side, device=self.device)


def tests(setting: Setting) -> list[Row]:
    """The tests marked cuda, by pytest, on this device."""
    environment = {**os.environ, "ADAP_TEST_DEVICE": str(setting.device)}
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "tests"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ended.returncode:
        print(ended.stdout[-4000:], file=sys.stderr)
    return [{"what": "pytest -m cuda", "passed": not ended.returncode, "said": ended.stdout.splitlines()[-1]}]


@torch.inference_mode()
def sweep(setting: Setting) -> list[Row]:
    """All configurations of a batch, both ways; every `subset`th of the loop is timed and scaled by FLOPs."""
    model = setting.model()
    every = list(model.config.space)
    timed = every[:: setting.subset]
    x, exact = setting.images(model, setting.batch), GridPass(made(setting.size).to(setting.device), every)
    calls = {
        "passes": _cast(setting, _all_of, GridPass(model, every), x),
        "loop": _cast(setting, lambda: [model(x, c) for c in timed]),
        "exact": lambda: _all_of(exact, x),
    }
    ms = {name: timing.median_ms for name, timing in setting.stopwatch.measure(calls).items()}
    loop_ms = ms["loop"] * _flops(model, every) / _flops(model, timed)
    facts = {"batch": setting.batch, "configurations": len(every), "timed": len(timed)}
    return [
        {"what": "loop over one pass per width", **facts, "ratio": round(loop_ms / ms["passes"], 2)},
        {"what": "float32, not compiled, over this", **facts, "ratio": round(ms["exact"] / ms["passes"], 2)},
    ]


def _all_of(grid: GridPass, x: torch.Tensor) -> None:
    for _ in grid.outputs(x):
        pass


def _flops(model: AdaPerceiver, configurations: list[Configuration]) -> int:
    return sum(flops(model.config, c, readout="plain", attention="block") for c in configurations)


def anytime_overhead(setting: Setting) -> list[Row]:
    """Continued over direct, per kind of path and batch size."""
    model, rows = setting.model(), []
    for batch in setting.batches:
        x = setting.images(model, batch)
        calls = {"direct": _cast(setting, anytime.direct, model, x, model.full_configuration)}
        for name, path in anytime.paths(model.config).items():
            calls[name] = _cast(setting, anytime.continued, model, x, path)
        times = setting.stopwatch.measure(calls)
        ratios = {name: round(times[name].median_ms / times["direct"].median_ms, 3) for name in calls}
        rows.append({"what": "continued over direct", "batch": batch, **ratios})
    return rows


def _cast(setting: Setting, call: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    def cast() -> Any:
        with autocast(setting.device, setting.dtype):
            return call(*arguments)

    return cast


def routed_throughput(setting: Setting) -> list[Row]:
    """Per-sample exits and per-sample choices: as the published oracle's where its data are, else drawn."""
    model = setting.model()
    x, c = setting.images(model, setting.samples), model.config
    found = oracle.needed()
    images = oracle.on_axes_of(c, found) if found else None
    space = list(c.space)
    if images is None:
        hazards = np.array([LEAVES] * (c.depth - 1) + [1.0])
        chosen = [space[i] for i in np.random.default_rng(0).integers(len(space), size=len(x))]
    else:
        hazards, chosen = oracle.hazards(images, c.depth), oracle.drawn(images, len(x))
    common = {"batch": setting.batch, "rounds": setting.rounds}
    with autocast(setting.device, setting.dtype):
        rows = {
            "exits": routed.exits(model, x, hazards=hazards, **common),
            "choices": routed.choices(model, x, chosen, **common),
        }
    drawn = "drawn evenly" if images is None else "as the published oracle's"
    return [
        {"what": what, "drawn": drawn, "batch": setting.batch, **{k: round(v, 3) for k, v in row.items()}}
        for what, row in rows.items()
    ]


def attention_ways(setting: Setting) -> list[Row]:
    """See attention.py."""
    name = dtype_name(setting.dtype)
    options = argparse.Namespace(
        size=setting.size,
        device=str(setting.device),
        dtype=name,
        rounds=setting.rounds,
        batches=setting.batches,
    )
    found = attention.measure(options)["batches"]
    return [
        {
            "what": "over masked attention",
            "batch": int(batch),
            **{n: t["of_masked"] for n, t in times.items()},
        }
        for batch, times in found.items()
    ]


PARTS: dict[str, Callable[[Setting], list[Row]]] = {
    "tests": tests,
    "sweep": sweep,
    "anytime": anytime_overhead,
    "routed": routed_throughput,
    "attention": attention_ways,
    "models": lambda setting: rivals.compare(
        made(setting.size),
        setting.size,
        setting.stopwatch,
        device=setting.device,
        dtype=setting.dtype,
        batch=setting.batch,
        compiled=setting.compiled,
    ),
}


def parse() -> Setting:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to see that everything runs")
    parser.add_argument("--size", choices=tuple(rivals.RIVALS), default="published")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--compile", action="store_true", dest="compiled", help="blocks; in `models` all")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64], help="anytime, attention")
    parser.add_argument("--samples", type=int, default=1024, help="of routed")
    parser.add_argument("--subset", type=int, default=1, help="time every Nth configuration of sweep's loop")
    parser.add_argument("--rounds", type=int, default=7)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--markdown", action="store_true")
    setting = parser.parse_args(namespace=Setting())
    try:
        setting.device = resolve(setting.device)
        setting.dtype = resolve_dtype(setting.dtype, setting.device)
    except AdapError as error:
        print(f"{error.message}; {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    return setting


def markdown(facts: Row, found: dict[str, list[Row]]) -> str:
    """One section for RESULTS.md: what it was measured on, and a line for each measurement."""
    machine = facts["machine"]
    told = f"{machine['name']}, {facts['dtype']}, {'compiled' if facts['compiled'] else 'not compiled'}"
    lines = ["", f"## {facts['date']}: {told}, size {facts['size']}", ""]
    lines += [f"Command: `{facts['command']}`; torch {facts['torch']}, adap {facts['adap']}.", ""]
    lines += ["| part | what | measured |", "|---|---|---|"]
    for part, rows in found.items():
        for row in rows:
            rest = ", ".join(f"{name} {value}" for name, value in row.items() if name != "what")
            lines.append(f"| {part} | {row['what']} | {rest} |")
    return "\n".join(lines)


def attempted(part: str, setting: Setting) -> list[Row]:
    """A part that fails is told with its reason, and does not cost the others their results."""
    try:
        return PARTS[part](setting)
    except Exception as error:
        traceback.print_exc()
        return [{"what": "failed", "error": f"{type(error).__name__}: {str(error).splitlines()[:1]}"}]


def main() -> None:
    setting = parse()
    if setting.device.type == "cpu":
        torch.set_num_threads(1)
    found = {}
    for part in setting.parts:
        print(f"{part} ...", file=sys.stderr)
        found[part] = attempted(part, setting)
    facts = {
        "date": datetime.now(UTC).date().isoformat(), "machine": describe(setting.device),
        "dtype": dtype_name(setting.dtype), "compiled": setting.compiled, "size": setting.size,
        "torch": str(torch.__version__), "adap": __version__, "command": " ".join(sys.argv),
    }  # fmt: skip
    if setting.json:
        print(json.dumps({"schema_version": 1, **facts, "parts": found}))
    elif setting.markdown:
        print(markdown(facts, found))
    else:
        for part, rows in found.items():
            for row in rows:
                print(f"{part}: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    failed = any(
        row["what"] == "failed" or row.get("passed") is False for rows in found.values() for row in rows
    )
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
