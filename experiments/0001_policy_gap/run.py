"""How much of the gap to the oracle does each kind of policy close?

    python experiments/0001_policy_gap/run.py --run adap-run --work adap-run-gap

Trains the field on the fit split of the run's outcome table, chooses on tune, reports on test, and writes
results.json, field.csv, curves.csv, differences.csv, curves.png and gap.png beside this file (or to
--output). Trainings are kept in --work and not repeated; `--only gate` trains some of them and reports
nothing. Intervals: 95 %, over samples drawn with replacement, paired, conditional on this table and model.
"""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from adapcli.report import style
from policies import registry
from policies.base import split_rows
from policies.curves import DROPS, Curve, Worth, Yardstick, curve_of, frame, mean_of, members_of, told
from policies.evaluate import evaluate
from policies.field import Entry, Field, Request, train_field
from policies.files import read_json, write_bytes, write_csv, write_json
from policies.guarantee import Promise
from policies.objective import Objective
from policies.pareto import hull
from policies.table import OutcomeTable

LIMIT = 0.005
FEW, MANY = 5_000, 20_000
BEST = "gate"
DRAWN = ("threshold", "one-threshold", "path", "gate-hard", "gate", "anytime-ppo")


class Work:
    """What is done is in a folder, and not done again."""

    def __init__(self, folder: Path, table: OutcomeTable, split: str, resamples: int) -> None:
        self.folder, self.table, self.split, self.resamples = folder, table, split, resamples

    def once(self, name: str, make):
        """The JSON object that `make` gave the first time; one per split, samples and draws."""
        path = self.folder / f"{name}-{self.split}.json"
        made_for = {"samples": self.table.meta.get("fingerprints", {}), "resamples": self.resamples}
        if path.exists():
            kept = read_json(path)
            if kept.get("made_for") != made_for:
                raise SystemExit(f"{path}: made for another table, remove it")
            return kept["found"]
        found = make()
        write_json(path, {"made_for": made_for, "found": found})
        return found


def worth_of(entry: Entry, yardstick: Yardstick) -> Worth:
    return mean_of(entry.worths(yardstick), entry.entrant.name)


def standings(field: Field, yardstick: Yardstick) -> tuple[dict[str, Worth], pd.DataFrame]:
    """Worth per entrant (mean over seeds), and a table of everything with intervals."""
    worths = {entry.entrant.name: worth_of(entry, yardstick) for entry in field.entries}
    rows = []
    for entry in field.entries:
        seeds = [worth.gap[0] for worth in entry.worths(yardstick)]
        rows.append(
            {
                "name": entry.entrant.name,
                "n": yardstick.n,
                "seeds": len(seeds),
                **flat(worths[entry.entrant.name]),
                "gap_worst_seed": min(seeds),
                "gap_best_seed": max(seeds),
                "gap_sd_seeds": float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None,
                "seconds": float(np.mean([member.seconds for member in entry.members])),
            }
        )
    return worths, pd.DataFrame(rows)


def flat(worth: Worth) -> dict[str, float | None]:
    """One number and its two ends per column."""
    content = worth.to_dict()
    parts = {"gap": content["gap"]}
    for saving in content["savings"]:
        parts |= {f"{kind}_{saving['drop']:g}": saving[kind] for kind in ("saving_full", "saving_static")}
    parts |= {f"utility_gain_{each['lambda']:g}": each["gain"] for each in content["utility"]}
    found: dict[str, float | None] = {}
    for name, value in parts.items():
        value = value or dict.fromkeys(("mean", "low", "high"))
        found |= {name: value["mean"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
    return found


def differences(worths: dict[str, Worth]) -> pd.DataFrame:
    """BEST less each other, paired."""
    if BEST not in worths:
        return pd.DataFrame()
    return pd.DataFrame(
        [
            {"less": name, "of": BEST, **flat(worths[BEST].minus(worth))}
            for name, worth in worths.items()
            if name != BEST
        ]
    )


def utility_share(field: Field, yardstick: Yardstick) -> dict | None:
    """What anytime-ppo gains over static, summed over prices, as a part of what BEST does; seed by seed."""
    entries = {entry.entrant.name: entry for entry in field.entries}
    if not {BEST, "anytime-ppo"} <= entries.keys():
        return None
    whole = worth_of(entries[BEST], yardstick).utility_gain.sum(axis=1)
    seeds = [worth.utility_gain.sum(axis=1) / whole for worth in entries["anytime-ppo"].worths(yardstick)]
    return {"mean": told(np.mean(seeds, axis=0)), "seeds": [told(seed) for seed in seeds]}


def operating_point(table: OutcomeTable, split: str, resamples: int) -> dict:
    """The policy guaranteed to lose at most LIMIT, on samples that neither chose nor certified it."""
    started = time.perf_counter()
    promise = Promise(LIMIT, 0.95)
    trained = registry.train(BEST, table, promise=promise, best_effort=True)
    seconds, judged = (
        time.perf_counter() - started,
        evaluate(trained.policy, table, split, resamples=resamples),
    )
    rows = split_rows(table, split)
    decision = trained.policy.select(table, rows)
    lost = promise.losses(table, rows, decision)
    return {
        "limit": LIMIT,
        "certified": bool(trained.met),
        "n_calibration": len(table.rows("calibration")),
        "n": judged.n,
        "drop": float(lost.mean()),
        "drop_upper_95_one_sided": float(lost.mean() + 1.6449 * lost.std(ddof=1) / np.sqrt(len(lost))),
        "saving_full": asdict(judged.saving_full),
        "saving_static": asdict(judged.saving_static),
        "seconds": seconds,
    }


def few_against_many(table: OutcomeTable, split: str, resamples: int) -> dict:
    """Soft scores of FEW fit samples against hard labels of MANY, paired."""
    yardstick = Yardstick.of(table, split, resamples=resamples)
    fit, others = table.rows("fit"), np.flatnonzero(table.samples["split"].to_numpy() != "fit")
    worths = {}
    for name, size, score in (("soft", FEW, "soft"), ("hard", MANY, "hard")):
        some = np.random.default_rng(0).permutation(fit)[:size]
        trained = registry.train(BEST, table.take(np.sort(np.r_[some, others])), score=score)
        members = members_of(trained.family, 33, trained.policy)
        worths[name] = yardstick.worth(curve_of(members, table, split, yardstick.resampling, name=name))
    found = {f"{name}_{size}": flat(worths[name]) for name, size in (("soft", FEW), ("hard", MANY))}
    return {**found, "soft_less_hard": flat(worths["soft"].minus(worths["hard"])), "n": yardstick.n}


def beyond_full(curve: Curve, yardstick: Yardstick) -> pd.DataFrame:
    """Per member cost share and score less the full configuration's, paired, with its interval."""
    found = frame(curve, yardstick, -1).drop(columns="chosen")
    order = np.argsort(curve.cost_flops[0], kind="stable")
    less = curve.score[:, order] - yardstick.full_score[:, None]
    low, high = np.quantile(less[1:], [0.025, 0.975], axis=0)
    return found.assign(name=curve.name, difference=less[0], difference_low=low, difference_high=high)


@style.styled
def curves_figure(frames: list[pd.DataFrame], statics: pd.DataFrame):
    figure, axes = style.canvas(style.WIDE, 4.6)
    axes.plot(statics["cost_share"], 100 * statics["difference"], "-", color=style.INK, label="static hull")
    for each, colour in zip(frames, style.SERIES, strict=False):
        x = each["cost_share"]
        axes.fill_between(
            x, 100 * each["difference_low"], 100 * each["difference_high"], color=colour, alpha=0.15, lw=0
        )
        axes.plot(x, 100 * each["difference"], ".-", color=colour, lw=1.2, label=each["name"].iloc[0])
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.2, 0.5, 1], ["0.1", "0.2", "0.5", "1"])
    axes.minorticks_off()
    axes.set_ylim(-3, 0.6)
    axes.set_xlim(0.05, 1.1)
    axes.set_xlabel("mean cost per sample, of the full configuration's")
    axes.set_ylabel("points against full")
    style.legend_below(figure, axes, style.WIDE)
    return figure


@style.styled
def gap_figure(rows: pd.DataFrame):
    figure, axes = style.canvas(style.WIDE, 0.9 + 0.28 * len(rows))
    y = -np.arange(len(rows))
    axes.hlines(y, rows["gap_low"], rows["gap_high"], color=style.BLUE, lw=2)
    axes.plot(rows["gap"], y, "o", color=style.BLUE)
    for end in ("gap_worst_seed", "gap_best_seed"):
        several = rows["seeds"] > 1
        axes.plot(rows[end][several], y[several], "|", color=style.VERMILLION, markersize=10)
    axes.set_yticks(y, rows["name"])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(
        f"part of the gap closed, {rows['n'].iloc[0]} samples; bars 95 %, ticks worst and best seed"
    )
    return figure


def statics_of(yardstick: Yardstick) -> pd.DataFrame:
    found = beyond_full(yardstick.statics, yardstick)
    return found.iloc[hull(found["cost_flops"], found["score"])]


def report(field: Field, yardstick: Yardstick, work: Work, output: Path) -> None:
    worths, rows = standings(field, yardstick)
    kept = {name: member.curves[yardstick.split] for name, member in field.kept.items()}
    every = {name: beyond_full(curve, yardstick) for name, curve in kept.items()}
    shown = [every[name] for name in DRAWN if name in every]
    ceiling = {"name": "reference", **flat(yardstick.ceiling)}
    table, split, resamples = work.table, work.split, work.resamples
    results = {
        "schema_version": 1,
        "split": split,
        "n": yardstick.n,
        "resamples": resamples,
        "full_score": float(yardstick.full_score[0]),
        "full_cost_flops": yardstick.full_cost_flops,
        "fingerprints": table.meta.get("fingerprints"),
        "drops": list(DROPS),
        "field": records(rows),
        "reference": ceiling,
        "skipped": dict(field.skipped),
        "recommendation": field.recommendation.to_dict(),
        "utility_of_ppo_over_induction": utility_share(field, yardstick),
        "operating_point": work.once("point", lambda: operating_point(table, split, resamples)),
        "few_against_many": work.once("few", lambda: few_against_many(table, split, resamples)),
    }
    write_csv(output / "field.csv", rows)
    write_csv(output / "curves.csv", pd.concat([*every.values(), statics_of(yardstick)]))
    write_csv(output / "differences.csv", differences(worths))
    write_bytes(output / "curves.png", style.to_png(curves_figure(shown, statics_of(yardstick))))
    write_bytes(output / "gap.png", style.to_png(gap_figure(rows)))
    write_json(output / "results.json", results)
    print(rows[["name", "gap", "gap_low", "gap_high", "saving_full_0.005", "seconds"]].round(3).to_string())
    print("\n".join(field.recommendation.reason))


def records(rows: pd.DataFrame) -> list[dict]:
    return rows.astype(object).where(rows.notna(), None).to_dict(orient="records")


class Told:
    """A line per training on stdout."""

    def __init__(self, label: str) -> None:
        self.label = label

    def __enter__(self):
        self.started = time.perf_counter()
        return lambda done, total: None

    def __exit__(self, *_) -> None:
        print(f"{self.label}: {time.perf_counter() - self.started:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a run folder with an outcome table")
    parser.add_argument(
        "--work", type=Path, required=True, help="where trainings are kept; not the run folder"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="train these and report nothing")
    parser.add_argument("--seeds", type=int, default=5, help="of learning by trial")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--timesteps", type=int, help="of learning by trial, for a quick try")
    parser.add_argument("--max-drop", type=float, default=LIMIT, help="what is recommended for")
    parser.add_argument("--split", choices=("test", "tune"), default="test", help="tune: while trying things")
    parser.add_argument("--output", "-o", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    table = OutcomeTable.load(options.run / "table")
    request = replace(
        Request(Objective(max_drop=options.max_drop)),
        timesteps=options.timesteps,
        resamples=options.resamples,
    )
    field = train_field(
        table,
        request,
        options.work,
        seeds=range(options.seeds),
        only=options.only,
        resume=True,
        announce=Told,
    )
    if options.only:
        return
    yardstick = field.yardstick if options.split == "test" else field.tuning
    work = Work(options.work, table, options.split, options.resamples)
    report(field, yardstick, work, options.output)


if __name__ == "__main__":
    main()
