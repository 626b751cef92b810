"""A believable run without a model: scores saturate along each axis, hard samples need more.

Also a script: `python tests/report/conftest.py DIR` makes such a run folder to look at.
"""

import sys
from itertools import product

import numpy as np
import pandas as pd
import pytest

from adapcli.model.config import ModelConfig
from adapcli.model.flops import flops, increments, memory_bytes, readout_flops
from adapcli.model.preprocessing import Preprocessing
from adapcli.report.build import build
from adapcli.run import Run
from adapcli.search import Target, exhaustive
from adapcli.space import Configuration
from policies.base import save
from policies.grid import Grid
from policies.table import OutcomeTable
from policies.threshold import Threshold

SIZES = {"fit": 1500, "tune": 600, "calibration": 1000, "test": 2000}
CLASSES = 10

CONFIG = ModelConfig(
    task="classification",
    embed_dim=64,
    num_heads=4,
    depth=6,
    max_latent_tokens=16,
    token_granularities=(1, 2, 4, 8, 16),
    widths=(16, 32, 64),
    ffn_ratio=2.57,
    image_size=32,
    patch_size=8,
    in_channels=1,
    num_classes=CLASSES,
    use_embed_ffn=False,
)


def configurations(depths=(1, 2, 3, 4, 5, 6)) -> list[Configuration]:
    return [Configuration(t, w, d) for t, w, d in product(CONFIG.token_granularities, CONFIG.widths, depths)]


def make_table(sizes=SIZES, *, seed=0, strength=0.0, **changes) -> OutcomeTable:
    rng = np.random.default_rng(seed)
    grid = configurations()
    n = sum(sizes.values())
    hardness = rng.normal(0, 1.5, n)
    ability = np.array([_ability(c) for c in grid]) + strength
    outlook = ability[None] - hardness[:, None] + rng.logistic(0, 0.35, n)[:, None]
    hit = outlook + rng.logistic(0, 0.18, outlook.shape) > 0
    target = rng.integers(0, CLASSES, n)
    wrong = (target + rng.integers(1, CLASSES, n))[:, None] % CLASSES
    confidence = 0.1 + 0.9 / (1 + np.exp(-outlook / 0.3))
    signals = np.stack([confidence, 2 * confidence - 1, -np.log(confidence)], -1)
    features = hardness[:, None] * rng.normal(0.5, 0.2, 8) + rng.normal(0, 1, (n, 8))
    split = np.repeat(list(sizes), list(sizes.values()))
    counts = np.concatenate([np.arange(size) for size in sizes.values()])
    given = {
        "configs": config_frame(grid),
        "increment_flops": increments(CONFIG, grid),
        "score": hit,
        "prediction": np.where(hit, target[:, None], wrong),
        "nll": -np.log(np.where(hit, confidence, (1 - confidence) / 9)),
        "signals": signals,
        "signal_names": ("confidence", "margin", "entropy"),
        "features": features,
        "feature_flops": 4608,
        "samples": pd.DataFrame(
            {
                "sample_id": [f"{s}/{i:06d}" for s, i in zip(split, counts, strict=True)],
                "target": target,
                "split": split,
            }
        ),
        "meta": make_meta(seed, sizes),
    }
    return OutcomeTable.from_arrays(**(given | changes))


def _ability(c: Configuration) -> float:
    tokens = 2.6 * (1 - 2.0 ** (-0.5 * np.log2(2 * c.tokens)))
    width = 0.35 * np.log2(c.width / 16) / 2
    depth = 1.9 * (1 - 0.62 ** (c.depth - 0.4))
    return -1.6 + tokens + width + depth - 0.25 * (c.depth == 6) * (c.tokens == 1)


def config_frame(grid: list[Configuration]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": "digits",
            "tokens": [c.tokens for c in grid],
            "width": [c.width for c in grid],
            "depth": [c.depth for c in grid],
            "cost_flops": [flops(CONFIG, c, readout="folded", attention="block") for c in grid],
            "readout_flops": [readout_flops(CONFIG, c.tokens) for c in grid],
            "memory_bytes": [memory_bytes(CONFIG, c) for c in grid],
        }
    )


def make_meta(seed: int, sizes: dict[str, int]) -> dict:
    full = Configuration(16, 64, 6)
    return {
        "fingerprints": {
            "checkpoint": f"{seed:016x}",
            "data": {name: f"digits:{name}-0f5b1c" for name in sizes},
            "dtype": "float32",
        },
        "task": "classification",
        "class_names": [str(i) for i in range(CLASSES)],
        "model": {"name": "digits", "config": CONFIG.to_dict()},
        "preprocessing": Preprocessing.published(CONFIG.image_size, 1).to_dict(),
        "data": {"name": "digits", "seed": 0, "limits": dict(sizes), "sizes": dict(sizes), "skipped": 0},
        "seed": 0,
        "conventions": {
            "flops": "2 per multiply-add",
            "readout": "folded",
            "attention": "block",
            "image_size": CONFIG.image_size,
        },
        "full_configuration": {
            "tokens": full.tokens,
            "width": full.width,
            "depth": full.depth,
            "published_flops": flops(CONFIG, full),
            "executed_flops": flops(CONFIG, full, readout="folded", attention="block"),
        },
        "batch": 64,
        "device": {"device": "cpu", "name": "Example CPU", "threads": 1, "cpus": 2},
        "versions": {"adap": "0.1.0", "torch": "2.13.0"},
    }


@pytest.fixture(scope="session")
def synthetic_table():
    """90 configurations on few samples."""
    return make_table({"fit": 120, "tune": 80, "calibration": 200, "test": 300})


def make_run(folder, table: OutcomeTable, *, target: float | None = 0.3, policies: bool = True) -> Run:
    """A run folder as the commands leave it. target: None for no search."""
    run = Run.open(folder)
    table.save(run.table)
    run.record(
        checkpoint={"path": "model.pt", "fingerprint": table.meta["fingerprints"].get("checkpoint")}, seed=0
    )
    if target is not None:
        exhaustive(table, Target(fraction=target)).save(run.search)
    if policies:
        at = {str(c): i for i, c in enumerate(configurations())}
        for name, tokens, tau in (("threshold", 8, 0.9), ("hasty", 4, 0.7)):
            chain = tuple(at[f"t{tokens} w64 l{depth}"] for depth in (1, 2, 4, 6))
            save(Threshold(Grid.of(table), chain, tau, name=name), run.policies / name)
    return run


@pytest.fixture(scope="session")
def synthetic():
    """This module: tests cannot import it."""
    return sys.modules[__name__]


@pytest.fixture(scope="session", name="make_run")
def make_run_fixture():
    return make_run


@pytest.fixture(scope="session")
def full_run(tmp_path_factory, synthetic_table):
    return make_run(tmp_path_factory.mktemp("runs") / "run", synthetic_table)


@pytest.fixture(scope="session")
def full_report(full_run):
    return build(full_run, made="2026-01-02 03:04 UTC")


if __name__ == "__main__":
    print(build(make_run(sys.argv[1], make_table())).index)
