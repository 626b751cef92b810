"""What a policy is, what it answers, and how it is kept: JSON and safetensors, never pickle.

A policy is anything with a `name` and a `select(table, rows)`. Policies that can be kept also know the grid
they were made for, and refuse any other.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from policies import arrays
from policies.errors import AdapError, FileError, UsageError
from policies.files import read_json, write_json
from policies.grid import Grid, kept_recalibration
from policies.objective import Choice, Objective
from policies.shown import short_repr
from policies.table import OutcomeTable
from policies.table.recalibration import Recalibration

SCHEMA_VERSION = 1
FORMAT = "adap-policy"
JSON_NAME = "policy.json"
ARRAYS_NAME = "policy.safetensors"

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Decision:
    """What a policy decided for n samples.

    configuration: (n,) int64, positions in `table.configs` whose answer is used.
    cost_flops: (n,) float64, everything executed for it: features, the policy's own network, every readout.
    """

    configuration: IntArray
    cost_flops: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "configuration", np.asarray(self.configuration, dtype=np.int64))
        object.__setattr__(self, "cost_flops", np.asarray(self.cost_flops, dtype=np.float64))
        if self.configuration.ndim != 1 or self.configuration.shape != self.cost_flops.shape:
            raise ValueError(
                f"shapes {self.configuration.shape} and {self.cost_flops.shape}: expected (n,) twice"
            )


@runtime_checkable
class Policy(Protocol):
    """Chooses a configuration per sample. `rows` (n,): positions in the table, in the answer's order."""

    @property
    def name(self) -> str:
        """A short name for tables and figures."""

    def select(self, table: OutcomeTable, rows: IntArray) -> Decision:
        """Decide for the samples at `rows`, each on its own: neighbours never change a decision."""


@runtime_checkable
class OneLook(Protocol):
    """A policy that sees a sample once, whatever its price: a family of them looks once for all."""

    @property
    def shared(self) -> object:
        """What `look` depends on: the same object in all members that see the same."""

    def look(self, table: OutcomeTable, rows: IntArray) -> Any:
        """What is seen of the samples at `rows`."""

    def best(self, seen: Any) -> IntArray:
        """Configurations (n,) for what was seen."""

    def overhead_flops(self, table: OutcomeTable) -> int:
        """What every decision costs beyond the chosen configuration."""


@runtime_checkable
class StoredPolicy(Protocol):
    """A policy that can be kept and found again.

    The registry finds its class by `kind`.
    """

    @property
    def kind(self) -> str:
        """The algorithm's name in the registry."""

    @property
    def name(self) -> str:
        """A short name for tables and figures."""

    @property
    def grid(self) -> Grid:
        """The configurations it was made for."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features it needs, in its own order."""

    @property
    def own_flops(self) -> int:
        """FLOPs of its own computation per sample, without the features."""

    def select(self, table: OutcomeTable, rows: IntArray) -> Decision:
        """See Policy."""

    def parameters(self) -> dict[str, Any]:
        """What JSON can say."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What JSON cannot."""

    @classmethod
    def restore(
        cls, grid: Grid, name: str, parameters: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> Self:
        """Rebuild. Raises KeyError, TypeError, ValueError or UsageError for what does not fit."""


@dataclass(frozen=True)
class Trained:
    """A policy, and how it was chosen on the tune split.

    met: whether the objective is satisfied there; score, cost_flops: means there; candidates: how many
    there were. family: the candidates themselves, in the order of their parameter (a price, a threshold):
    the policy's whole trade-off. certificate: of what is guaranteed, see policies.guarantee; JSON values.
    target: what counted as the score, "score" or "same-answer"; of the latter, score is the agreement.
    """

    __repr__ = short_repr

    policy: StoredPolicy
    objective: Objective
    met: bool
    score: float
    cost_flops: float
    candidates: int
    family: tuple[StoredPolicy, ...]
    certificate: Mapping[str, Any] | None = None
    target: str = "score"


@dataclass(frozen=True)
class Candidates:
    """Policies measured on the tune split: mean score (K,) and mean cost (K,)."""

    score: FloatArray
    cost_flops: FloatArray

    def choose(self, table: OutcomeTable, objective: Objective) -> Choice:
        """The position that the objective picks, against the full configuration on the same split."""
        return objective.choose(
            self.score,
            self.cost_flops,
            full_score=float(tuning_scores(table)[:, table.full].mean(dtype=np.float64)),
            full_cost_flops=float(table.cost_flops[table.full]),
        )

    def trained(self, family: Sequence[StoredPolicy], objective: Objective, choice: Choice) -> Trained:
        """The policy at the chosen position of the family (K,), with its measures."""
        at = choice.position
        return Trained(
            policy=family[at],
            objective=objective,
            met=choice.met,
            score=float(self.score[at]),
            cost_flops=float(self.cost_flops[at]),
            candidates=len(self.score),
            family=tuple(family),
        )


def measure(policies: Sequence[Policy], table: OutcomeTable, rows: IntArray) -> Candidates:
    """Mean score and cost of each policy over the samples at `rows`."""
    score, cost = np.empty(len(policies)), np.empty(len(policies))
    values = np.asarray(table.score[rows])
    for i, policy in enumerate(policies):
        decision = policy.select(table, rows)
        score[i] = values[np.arange(len(rows)), decision.configuration].mean(dtype=np.float64)
        cost[i] = decision.cost_flops.mean()
    return Candidates(score, cost)


def split_rows(table: OutcomeTable, split: str) -> IntArray:
    """Rows of a split; FileError if it is empty."""
    rows = np.asarray(table.rows(split), dtype=np.int64)
    if not len(rows):
        raise FileError(f"the outcome table has no samples in split {split}")
    return rows


def tuning_scores(table: OutcomeTable) -> npt.NDArray[np.float32]:
    """Scores of the tune split, (n, C)."""
    return np.asarray(table.score[split_rows(table, "tune")], dtype=np.float32)


def feature_columns(table: OutcomeTable, names: Sequence[str]) -> IntArray:
    """Positions of the named features in the table; FileError naming the first that is missing."""
    position = {name: i for i, name in enumerate(table.feature_names)}
    missing = [name for name in names if name not in position]
    if missing:
        raise FileError(
            f"the table lacks {len(missing)} of the policy's features, the first is {missing[0]!r}"
        )
    return np.array([position[name] for name in names], dtype=np.int64)


def save(
    policy: StoredPolicy,
    folder: str | Path,
    *,
    overwrite: bool = False,
    certificate: Mapping[str, Any] | None = None,
) -> None:
    """Write `policy.safetensors`, the grid's recalibration, if any, and, last, `policy.json` into `folder`.

    certificate: of what is guaranteed of this policy, kept with it. Raises UsageError if a policy is there
    already and `overwrite` is not set.
    """
    folder = Path(folder)
    if (folder / JSON_NAME).exists() and not overwrite:
        raise UsageError(f"{folder} holds a policy already", "choose another name, or overwrite")
    digest = arrays.write(folder / ARRAYS_NAME, policy.arrays())
    if policy.grid.recalibration is not None:
        policy.grid.recalibration.save(folder)
    content = _description(policy, digest)
    if certificate is not None:
        content["certificate"] = {**certificate, "policy_sha256": _digest(content)}
    write_json(folder / JSON_NAME, content)


def _digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of all that decides: the description, and through it the arrays."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _description(policy: StoredPolicy, digest: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "kind": policy.kind,
        "name": policy.name,
        "grid": policy.grid.to_dict(),
        "feature_names": list(policy.feature_names),
        "own_flops": policy.own_flops,
        "arrays_sha256": digest,
        "parameters": policy.parameters(),
    }


@dataclass(frozen=True)
class Stored:
    """A kept policy as read, before its class rebuilds it."""

    path: Path
    content: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]
    recalibration: Recalibration | None = None

    def restore(self, cls: type[StoredPolicy]) -> StoredPolicy:
        """Rebuild the policy; FileError if a field is missing or does not fit."""
        try:
            grid = replace(Grid.from_dict(self.content["grid"]), recalibration=self.recalibration)
            policy = cls.restore(
                grid, str(self.content["name"]), dict(self.content["parameters"]), self.arrays
            )
        except KeyError as error:
            raise FileError(f"{self.path}: field {error} is missing") from error
        except (TypeError, ValueError, AttributeError, OverflowError, AdapError) as error:
            raise FileError(f"{self.path}: not a usable policy: {error}") from error
        if list(policy.feature_names) != self.content.get("feature_names"):
            raise FileError(f"{self.path}: feature_names do not fit the policy's parameters")
        return policy

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides: what else is kept with a policy names it."""
        return _digest({name: value for name, value in self.content.items() if name != "certificate"})

    def certificate(self) -> dict[str, Any] | None:
        """The certificate kept with the policy, if any; FileError if it was made for another policy."""
        found = self.content.get("certificate")
        if found is None:
            return None
        if not isinstance(found, dict) or found.get("policy_sha256") != self.digest:
            raise FileError(
                f"{self.path}: the certificate does not belong to this policy", "train the policy again"
            )
        return found


def read(folder: str | Path) -> Stored:
    """Read the files of a kept policy. Nothing in them can be executed.

    Raises FileError for anything that `save` did not write, a Stable-Baselines3 archive among them.
    """
    folder = Path(folder)
    if folder.is_file():
        arrays.refuse_file(folder, JSON_NAME)
    if not folder.is_dir():
        raise FileError(f"{folder}: no such policy folder")
    path = folder / JSON_NAME
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileError(f"{path}: not a policy of this project")
    if content.get("schema_version") != SCHEMA_VERSION:
        version = content.get("schema_version")
        raise FileError(f"{path}: schema_version {version!r}, this version reads {SCHEMA_VERSION}")
    found = arrays.read(folder / ARRAYS_NAME, content.get("arrays_sha256"), JSON_NAME)
    return Stored(path, content, found, kept_recalibration(folder, content.get("grid")))


def check_name(name: str) -> str:
    """Its name becomes a folder: up to 64 characters, a letter or digit first; else UsageError."""
    if re.fullmatch(r"\w[^/\\]{0,63}", name) and name.isprintable() and name.strip() == name:
        return name
    raise UsageError(f"policy name {name!r}: use up to 64 characters, a letter or digit first, no slash")
