"""A trained member of the field, kept with its curves, so that a field can be resumed and compared anew."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as parse_arrays
from safetensors.numpy import save as dump_arrays

from policies import base, registry
from policies.base import Progress, StoredPolicy, Trained, measure, split_rows
from policies.curves import Curve, Yardstick, chosen_of, curve_of, members_of
from policies.errors import FileError
from policies.field.entrant import Entrant
from policies.files import atomic_folder, read_json, write_bytes, write_json
from policies.guarantee import Promise
from policies.objective import Objective
from policies.table import OutcomeTable

SCHEMA_VERSION = 1
MEMBERS = 33
SPLITS = ("tune", "test")
JSON_NAME = "member.json"
CURVES_NAME = "curves.safetensors"


@dataclass(frozen=True)
class Request:
    """What the field is trained for: the objective, or the promise in its place, and what is not the default.

    timesteps: of reinforcement learning. resamples, seed: of the intervals.
    """

    objective: Objective = field(default_factory=Objective)
    promise: Promise | None = None
    best_effort: bool = False
    timesteps: int | None = None
    resamples: int = 1000
    seed: int = 0

    def on(self, table: OutcomeTable) -> "Request":
        """The same of a table; without labels a drop is a share of other answers than the full one's.

        UsageError for a promise that needs labels where there are none.
        """
        registry.target_of(table, promise=self.promise)
        most = self.objective.max_drop
        return (
            self if table.labelled or most is None else replace(self, objective=Objective(same_answer=most))
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        promise = None if self.promise is None else asdict(self.promise)
        return {**asdict(self), "objective": self.objective.to_dict(), "promise": promise}


@dataclass(frozen=True, eq=False)
class Member:
    """One training of one entrant.

    curves: of its family, by split; chosen: the policy's position in them. seconds: of training. Otherwise as
    policies.base.Trained.
    """

    entrant: Entrant
    seed: int
    policy: StoredPolicy
    objective: Objective
    met: bool
    score: float
    cost_flops: float
    candidates: int
    seconds: float
    chosen: int
    curves: Mapping[str, Curve]
    certificate: Mapping[str, Any] | None = None
    target: str = "score"

    @property
    def trained(self) -> Trained:
        """The same without the rest of its family."""
        return Trained(
            policy=self.policy,
            objective=self.objective,
            met=self.met,
            score=self.score,
            cost_flops=self.cost_flops,
            candidates=self.candidates,
            family=(self.policy,),
            certificate=self.certificate,
            target=self.target,
        )

    def save(self, folder: Path, request: Request, yardsticks: Mapping[str, Yardstick]) -> None:
        """Write the policy, member.json and curves.safetensors into `folder`, whole or not at all."""
        told = {
            "schema_version": SCHEMA_VERSION,
            "entrant": {**asdict(self.entrant), "options": dict(self.entrant.options)},
            "request": request.to_dict(),
            "seed": self.seed,
            "objective": self.objective.to_dict(),
            "met": self.met,
            "score": self.score,
            "cost_flops": self.cost_flops,
            "candidates": self.candidates,
            "seconds": self.seconds,
            "chosen": self.chosen,
            "target": self.target,
        }
        arrays = {f"{split}_full": yardstick.full_score for split, yardstick in yardsticks.items()}
        for split, curve in self.curves.items():
            arrays |= {f"{split}_score": curve.score, f"{split}_cost_flops": curve.cost_flops}
            arrays["parameters"] = curve.parameters
        with atomic_folder(folder, overwrite=True) as scratch:
            base.save(self.policy, scratch, certificate=self.certificate)
            kept = {name: np.ascontiguousarray(array, np.float64) for name, array in arrays.items()}
            write_bytes(scratch / CURVES_NAME, dump_arrays(kept))
            write_json(scratch / JSON_NAME, told)

    @classmethod
    def load(
        cls,
        folder: Path,
        entrant: Entrant,
        request: Request,
        table: OutcomeTable,
        yardsticks: Mapping[str, Yardstick],
    ) -> "Member":
        """Read what `save` wrote. FileError if it is damaged, or was made for something else."""
        told = read_json(folder / JSON_NAME)
        if not isinstance(told, dict) or told.get("schema_version") != SCHEMA_VERSION:
            raise FileError(f"{folder / JSON_NAME}: not a member of a field of version {SCHEMA_VERSION}")
        _refuse_other(folder, told, entrant, request)
        arrays = _read_arrays(folder / CURVES_NAME)
        try:
            curves = {split: _curve(entrant.name, arrays, split) for split in yardsticks}
            _refuse_other_samples(folder, arrays, yardsticks)
            return cls(
                entrant=entrant,
                seed=int(told["seed"]),
                policy=registry.load(folder, table),
                objective=Objective(**told["objective"]),
                met=bool(told["met"]),
                score=float(told["score"]),
                cost_flops=float(told["cost_flops"]),
                candidates=int(told["candidates"]),
                seconds=float(told["seconds"]),
                chosen=int(told["chosen"]),
                curves=curves,
                certificate=base.read(folder).certificate(),
                target=str(told.get("target", "score")),  # earlier versions had no other
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{folder}: not usable: {error}") from error


def train_member(
    entrant: Entrant,
    table: OutcomeTable,
    request: Request,
    seed: int,
    yardsticks: Mapping[str, Yardstick],
    *,
    progress: Progress | None = None,
) -> Member:
    """Train, and measure the family on every split that there is a yardstick of.

    A price as the objective picks a member of the whole family, which is trained for all prices. Raises what
    `policies.registry.train` raises.
    """
    started = perf_counter()
    trained = _trained(entrant, table, request, seed, progress)
    seconds = perf_counter() - started
    members = members_of(trained.family, MEMBERS, trained.policy)
    curves = {
        split: curve_of(members, table, split, yardstick.resampling, name=entrant.name)
        for split, yardstick in yardsticks.items()
    }
    return Member(
        entrant=entrant,
        seed=seed,
        policy=trained.policy,
        objective=trained.objective,
        met=trained.met,
        score=trained.score,
        cost_flops=trained.cost_flops,
        candidates=trained.candidates,
        seconds=seconds,
        chosen=chosen_of(members, trained.policy),
        curves=curves,
        certificate=trained.certificate,
        target=registry.target_of(table),
    )


def _trained(
    entrant: Entrant, table: OutcomeTable, request: Request, seed: int, progress: Progress | None
) -> Trained:
    given: dict[str, Any] = {"name": entrant.name, **entrant.options}
    if "seed" in entrant.takes:
        given["seed"] = seed
    if entrant.by_trial:
        given["timesteps"] = request.timesteps
    asked = request.objective
    if request.promise is not None:
        given |= {"promise": request.promise, "best_effort": request.best_effort}
    elif asked.same_answer is not None:
        given["max_drop"] = asked.same_answer  # of the agreement, see registry.train
    elif asked.lambda_ is None:
        given |= asked.to_dict()
    trained = registry.train(entrant.algo, table, env=entrant.env, progress=progress, **given)
    return trained if request.promise is not None or asked.lambda_ is None else _chosen(trained, table, asked)


def _chosen(trained: Trained, table: OutcomeTable, objective: Objective) -> Trained:
    """Another member of the family."""
    measured = measure(trained.family, table, split_rows(table, "tune"))
    return measured.trained(trained.family, objective, measured.choose(table, objective))


def _refuse_other(folder: Path, told: Mapping[str, Any], entrant: Entrant, request: Request) -> None:
    wanted = {**request.to_dict(), "options": dict(entrant.options), "env": entrant.env}
    recorded = told.get("entrant", {})
    found = {**told.get("request", {}), "options": recorded.get("options"), "env": recorded.get("env")}
    differing = [
        f"{name}: {found.get(name)} there, {value} here"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    if differing:
        raise FileError(f"{folder}: made for something else: {'; '.join(differing)}", "add --overwrite")


def _refuse_other_samples(
    folder: Path, arrays: Mapping[str, npt.NDArray[Any]], yardsticks: Mapping[str, Yardstick]
) -> None:
    """The full configuration's score in every draw is a fingerprint of the samples and of the draws."""
    for split, yardstick in yardsticks.items():
        if not np.allclose(arrays[f"{split}_full"], yardstick.full_score, rtol=0, atol=1e-6):
            raise FileError(f"{folder}: made from other {split} samples", "add --overwrite")


def _curve(name: str, arrays: Mapping[str, npt.NDArray[Any]], split: str) -> Curve:
    score, cost, parameters = (arrays[key] for key in (f"{split}_score", f"{split}_cost_flops", "parameters"))
    if score.shape != cost.shape or score.shape[1:] != parameters.shape:
        raise ValueError(f"curves of shapes {score.shape}, {cost.shape} and {parameters.shape}")
    if not (np.isfinite(score).all() and np.isfinite(cost).all()):
        raise ValueError("a curve that is not finite")
    return Curve(name, score, cost, parameters)


def _read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return dict(parse_arrays(path.read_bytes()))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path}: not usable: {error}") from error
