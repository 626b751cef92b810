"""A cascade of scikit-learn models: build an outcome table, learn when the cheap answer will do, certify it.

Nothing here is about transformers: three classifiers of different cost answer the same question, and the
policy decides per sample which of them to ask. See README.md beside this file.
"""

import argparse
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import policies
from policies import base, evaluate, transfer
from policies.errors import AdapError
from policies.files import write_json
from policies.guarantee import Certificate, Promise, told
from policies.table import OutcomeTable

FEATURES, CLASSES = 40, 8
SHARES = {"train": 0.25, "fit": 0.25, "tune": 0.1, "calibration": 0.2, "test": 0.2}
SIGNALS = ("confidence", "margin", "entropy")


@dataclass(frozen=True)
class Data:
    """x (n, F), y (n,), and which samples are for what; each for one purpose only."""

    x: np.ndarray
    y: np.ndarray
    split: np.ndarray


def data(samples: int, seed: int) -> Data:
    """Eight classes of several clusters each: a linear model gets the easy ones."""
    x, y = make_classification(
        samples, FEATURES, n_informative=16, n_redundant=8, n_classes=CLASSES, n_clusters_per_class=2,
        class_sep=2.0, flip_y=0.02, random_state=seed,
    )  # fmt: skip
    split = np.random.default_rng(seed).choice(list(SHARES), samples, p=list(SHARES.values()))
    return Data(x, y, split)


def train(d: Data, seed: int) -> dict[str, Pipeline]:
    """From cheap to dear; none sees a sample that a policy is fitted, chosen, certified or judged on."""
    network = {"early_stopping": True, "max_iter": 40, "random_state": seed}
    models: dict[str, Any] = {
        "logistic": LogisticRegression(max_iter=300),
        "small": MLPClassifier((32,), **network),
        "large": MLPClassifier((512, 256), **network),
    }
    chosen = d.split == "train"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return {
            name: make_pipeline(StandardScaler(), model).fit(d.x[chosen], d.y[chosen])
            for name, model in models.items()
        }


def flops(model: Pipeline) -> int:
    """Of one prediction: 2 per multiply-add, 2 per input for scaling; activations are not counted."""
    last = model[-1]
    weights = [last.coef_] if isinstance(last, LogisticRegression) else last.coefs_
    return 2 * sum(matrix.size for matrix in weights) + 2 * FEATURES


def signals(probability: np.ndarray) -> np.ndarray:
    """What a prediction (n, K) says about itself, (n, 3): no label is needed."""
    ordered = np.sort(probability, axis=1)
    entropy = -(probability * np.log(np.maximum(probability, 1e-12))).sum(axis=1)
    return np.stack([ordered[:, -1], ordered[:, -1] - ordered[:, -2], entropy], axis=1)


def table(d: Data, models: dict[str, Pipeline], seed: int) -> OutcomeTable:
    """Every model on every sample. Going on to another model costs all of that model."""
    kept = d.split != "train"
    x, y = d.x[kept], d.y[kept]
    probability = np.stack([model.predict_proba(x) for model in models.values()], axis=1)
    answer = probability.argmax(axis=2)
    cost = np.array([flops(model) for model in models.values()])
    configs = pd.DataFrame({"model": list(models), "cost_flops": cost, "readout_flops": 0})
    increments = np.where(np.eye(len(cost), dtype=bool), 0.0, cost[None])
    right = np.take_along_axis(probability, y[:, None, None], axis=2)[..., 0]
    return OutcomeTable.from_arrays(
        configs=configs.assign(memory_bytes=4 * cost // 2),
        increment_flops=increments,
        score=answer == y[:, None],
        prediction=answer,
        nll=-np.log(np.maximum(right, 1e-12)),
        signals=np.stack([signals(part) for part in np.moveaxis(probability, 1, 0)], axis=1),
        signal_names=SIGNALS,
        features=x,
        feature_names=[f"x{i}" for i in range(FEATURES)],
        samples=pd.DataFrame({"split": d.split[kept], "target": y}),
        meta={"data": {"name": "make_classification"}, "seed": seed},
    )


def learn(
    algo: str, outcomes: OutcomeTable, folder: Path, max_drop: float, promise: Promise | None = None
) -> dict[str, Any]:
    """Train, keep, load again, and judge on the test split, which nothing was chosen on."""
    goal: dict[str, Any] = {"promise": promise} if promise else {"max_drop": max_drop}
    trained = policies.train(algo, outcomes, **goal)
    base.save(trained.policy, folder, overwrite=True, certificate=trained.certificate)
    transfer.Reference.of(trained.policy, outcomes).save(folder)
    policy = policies.load(folder, outcomes)
    judged = evaluate.evaluate(policy, outcomes)
    write_json(folder / "evaluation.json", {
        "schema_version": 1, "evaluation": judged.to_dict(), "objective": trained.objective.to_dict(),
        "met": trained.met,
    })  # fmt: skip
    certificate = trained.certificate and Certificate.from_dict(trained.certificate)
    words = told(certificate, "accuracy") if certificate else []
    return {"evaluation": judged.to_dict(), "guarantee": words}


def run(samples: int, seed: int, folder: Path, max_drop: float) -> dict[str, Any]:
    """The table in `folder`/table, policies in `folder`/policies: a run folder that `adap report` reads."""
    d = data(samples, seed)
    with threadpool_limits(1):  # small products; more threads only wait for each other
        models = train(d, seed)
        return decide(d, models, seed, folder, max_drop)


def decide(d: Data, models: dict[str, Pipeline], seed: int, folder: Path, max_drop: float) -> dict[str, Any]:
    """From the models to a table and to policies, each told with its evaluation on the test split."""
    outcomes = table(d, models, seed)
    outcomes.save(folder / "table", overwrite=True)
    test = outcomes.score[outcomes.rows("test")]
    found: dict[str, Any] = {
        "samples": {split: len(outcomes.rows(split)) for split in ("fit", "tune", "calibration", "test")},
        "models": {
            name: {"accuracy": float(test[:, i].mean()), "cost_flops": float(outcomes.cost_flops[i])}
            for i, name in enumerate(models)
        },
    }
    for algo in ("gate", "threshold"):
        found[algo] = learn(algo, outcomes, folder / "policies" / algo, max_drop)
    promise = Promise(2 * max_drop)
    found["certified gate"] = learn("gate", outcomes, folder / "policies" / "sure", max_drop, promise)
    return found


def show(found: dict[str, Any]) -> None:
    print("samples: " + ", ".join(f"{n} {split}" for split, n in found["samples"].items()))
    for name, model in found["models"].items():
        print(f"{name:14} {100 * model['accuracy']:.2f} %  {model['cost_flops'] / 1e3:6.1f} kFLOPs")
    for name in ("gate", "threshold", "certified gate"):
        judged = found[name]["evaluation"]
        score, saved, static = judged["score_difference"], judged["saving_full"], judged["saving_static"]
        cost = judged["cost_flops"]["mean"] / 1e3
        print(
            f"{name:14} {100 * judged['score']['mean']:.2f} %  {cost:6.1f} kFLOPs  "
            f"{100 * score['mean']:+.2f} points ({span(score)}), "
            f"{100 * saved['mean']:.1f} % cheaper than large, "
            f"{100 * static['mean']:.1f} % ({span(static)}) than mixtures"
        )
        for line in found[name]["guarantee"]:
            print(f"  {line}")


def span(interval: dict[str, float]) -> str:
    return f"{100 * interval['low']:.2f} .. {100 * interval['high']:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=80_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=Path("runs/cascade"))
    parser.add_argument("--max-drop", type=float, default=0.005, help="asked for; twice that is guaranteed")
    given = parser.parse_args()
    start = time.perf_counter()
    try:
        found = run(given.samples, given.seed, given.run, given.max_drop)
    except AdapError as error:
        print(f"error: {error.message}; {error.hint}", file=sys.stderr)
        return error.exit_code
    write_json(given.run / "results.json", found)
    show(found)
    print(f"{time.perf_counter() - start:.0f} s; everything is in {given.run}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
