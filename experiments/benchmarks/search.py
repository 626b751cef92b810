"""How long a search takes on a table of published size, against the same search written plainly with pandas.

The table (random scores, 2 signals) is made in a scratch folder first. Ours is opening it, every value
checked, and searching it; the rival has the scores in memory already, averages them configuration by
configuration, and looks for the front with two loops. Both must find the same. Prints seconds and ratios;
`--json`: one object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from adapcli.search import Target, exhaustive
from policies.statistics import wilson
from policies.table import SPLITS, OutcomeTable, OutcomeTableWriter

TARGET, CHUNK, LIMIT_S = 0.7, 2048, 5.0


def write_table(folder: Path, n_samples: int, n_configs: int) -> None:
    """Random hits, more of them where a configuration costs more."""
    rng = np.random.default_rng(0)
    cost = np.sort(rng.integers(2 * 10**9, 76 * 10**9, n_configs))
    configs = pd.DataFrame({"depth": range(n_configs), "cost_flops": cost})
    configs = configs.assign(readout_flops=10**6, memory_bytes=10**8)
    rate = 0.5 + 0.3 * np.log(cost / cost[0]) / np.log(cost[-1] / cost[0]) + rng.normal(0, 0.02, n_configs)
    writer = OutcomeTableWriter.create(
        folder,
        n_samples=n_samples,
        configs=configs,
        increment_flops=np.zeros((n_configs, n_configs)),
        signal_names=["confidence", "margin"],
        feature_names=["mean"],
        feature_flops=0,
        meta={},
        chunk=CHUNK,
    )
    for start, stop in writer.pending():
        shape = (stop - start, n_configs)
        score = (rng.random(shape, np.float32) < rate).astype(np.float32)
        writer.write(
            start,
            stop,
            score=score,
            agreement=score,
            prediction=score.astype(np.int16),
            nll=1 - score,
            signals=np.broadcast_to(score[..., None], (*shape, 2)),
            features=score[:, :1],
            sample_ids=range(start, stop),
            targets=1,
            splits=np.resize(SPLITS, stop - start),
        )
    writer.finish()


def plainly(scores: np.ndarray, samples: pd.DataFrame, configs: pd.DataFrame) -> tuple[list[int], int]:
    """Front and choice, with the interval of each, configuration by configuration."""
    frame = pd.DataFrame(scores)
    mean = [frame.loc[samples["split"] == "calibration", c].mean() for c in frame.columns]
    cost = configs["cost_flops"]

    def beats(a: int, b: int) -> bool:
        no_worse = cost[a] <= cost[b] and mean[a] >= mean[b]
        return bool(no_worse and (cost[a] < cost[b] or mean[a] > mean[b]))

    front = [b for b in configs.index if not any(beats(a, b) for a in configs.index)]
    front.sort(key=lambda c: (cost[c], c))
    for c in front:
        hits = frame.loc[samples["split"] == "test", c]
        wilson(hits.sum(), len(hits))
    allowed = [c for c in configs.index if cost[c] <= TARGET * cost.max()]
    return front, min(allowed, key=lambda c: (-mean[c], cost[c]))


def timed(call: Callable[[], object]) -> tuple[object, float]:
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def measure(n_samples: int, n_configs: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "table"
        write_table(folder, n_samples, n_configs)
        table, load_s = timed(lambda: OutcomeTable.load(folder))
        result, search_s = timed(lambda: exhaustive(table, Target(fraction=TARGET)))
        scores = np.array(table.score)
        (front, choice), rival_s = timed(lambda: plainly(scores, table.samples, table.configs))
    return {
        "schema_version": 1,
        "samples": n_samples,
        "configs": n_configs,
        "load_and_check_s": round(load_s, 3),
        "search_s": round(search_s, 3),
        "total_s": round(load_s + search_s, 3),
        "within_limit": load_s + search_s <= LIMIT_S,
        "rival_s": round(rival_s, 3),
        "ratio": round(rival_s / search_s, 1),
        "ratio_with_loading": round(rival_s / (load_s + search_s), 1),
        "same_answer": [point.index for point in result.front] == front and result.choice.index == choice,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--configs", type=int, default=378)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.samples, options.configs)
    if options.json:
        print(json.dumps(found))
        return
    print(f"{found['samples']} samples x {found['configs']} configurations")
    print(
        f"open and check {found['load_and_check_s']} s, search {found['search_s']} s, together "
        f"{found['total_s']} s (limit {LIMIT_S:g} s: {'kept' if found['within_limit'] else 'MISSED'})"
    )
    print(f"plainly with pandas, scores in memory: {found['rival_s']} s; same answer: {found['same_answer']}")
    print(f"ratio {found['ratio']} for the search, {found['ratio_with_loading']} with opening and checking")


if __name__ == "__main__":
    main()
