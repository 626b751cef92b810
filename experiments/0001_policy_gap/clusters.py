"""How much wider an interval is when scenes that share a scan are not counted as independent.

A scene's label is its largest digit, so scenes are grouped by the scan of that digit; the standard error of
the certified policy's mean loss is told for independent scenes and for independent scans (cluster-robust).

    python experiments/0001_policy_gap/clusters.py --run adap-run
"""

import argparse
from pathlib import Path

import numpy as np

from adapcli.data.scenes import BLOCK, Scenes, SceneSpec
from policies import registry
from policies.files import write_json
from policies.guarantee import Promise
from policies.table import OutcomeTable

LIMIT = 0.005


def deciding_scans(split: str, n: int, seed: int) -> np.ndarray:
    """Which scan of its pool decides the label of scenes 0..n - 1, (n,)."""
    scenes, found = Scenes(SceneSpec(), split=split, seed=seed), []
    for block in range(-(-n // BLOCK)):
        table = scenes.table(block)
        largest = np.where(table.present, table.values, -1).argmax(axis=1)
        found.append(table.digits.glyph[np.arange(len(largest)), largest])
    return np.concatenate(found)[:n]


def errors(losses: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Standard errors of the mean: of independent samples, and of independent groups."""
    residual = np.bincount(groups, losses - losses.mean())
    return losses.std() / len(losses) ** 0.5, float(np.sqrt((residual**2).sum()) / len(losses))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a run folder with a table of digits")
    parser.add_argument("--output", "-o", type=Path, default=Path(__file__).parent / "clusters.json")
    options = parser.parse_args()
    table, promise = OutcomeTable.load(options.run / "table"), Promise(LIMIT, 0.95)
    policy = registry.train("gate", table, promise=promise).policy
    found = {}
    for split in ("tune", "calibration", "test"):
        rows = table.rows(split)
        losses = promise.losses(table, rows, policy.select(table, rows))
        groups = np.unique(
            deciding_scans(split, len(rows), table.meta["fingerprints"]["seed"]), return_inverse=True
        )[1]
        alone, together = errors(losses, groups)
        found[split] = {"n": len(rows), "scans": int(groups.max() + 1), "loss": float(losses.mean()),
                        "error": float(alone), "error_by_scan": together}  # fmt: skip
        print(
            f"{split:12s} {100 * losses.mean():.2f} points, {100 * alone:.3f}, by scan {100 * together:.3f}"
        )
    write_json(options.output, {"schema_version": 1, "splits": found})


if __name__ == "__main__":
    main()
