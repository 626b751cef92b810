"""Search by sampling, with Optuna: for spaces too large to enumerate. On a table its regret can be told."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapcli.errors import FileError, InfeasibleError, UsageError
from adapcli.search.axes import Axes
from adapcli.search.landscape import Indices, Landscape
from adapcli.search.objectives import Objective, resolved
from adapcli.search.result import SearchResult, StudySummary, assemble
from adapcli.search.study import open_study
from adapcli.search.target import Target
from policies.table import OutcomeTable

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "nsga2", "random", "grid")
POPULATION = 20  # Optuna's 50 would leave a study of 100 trials with two generations
IDLE = 10  # proposals in a row without an evaluation; samplers repeat themselves on small grids


def sampled(
    table: OutcomeTable,
    target: Target | None = None,
    *,
    sampler: str = "tpe",
    trials: int = 100,
    study: Path | None = None,
    seed: int = 0,
    objective: str | Objective = "flops",
    progress: Callable[[int, int], None] = lambda done, total: None,
    warn: Callable[[str], None] = lambda text: None,
) -> SearchResult:
    """Evaluate configurations that `sampler` proposes until the study holds `trials` different ones.

    Score and cost are both optimised; a configuration over the budget is never evaluated, one proposed again
    is answered from memory, and neither counts as a trial. `study` keeps the study in a journal file and
    resumes it. Raises UsageError, FileError for a study made for something else, and InfeasibleError if
    nothing tried meets the target.
    """
    if sampler not in SAMPLERS:
        raise UsageError(f"sampler {sampler}: not known", f"allowed: {', '.join(SAMPLERS)}")
    if trials < 1:
        raise UsageError(f"trials {trials}: expected 1 or more")
    if study is not None and ":/" in str(study):
        raise UsageError(f"study {study}: expected a file, not an address")
    target = target or Target()
    landscape = Landscape.of(table, resolved(objective, table))
    search = _Search(landscape, target.within(landscape, landscape.eligible), target)
    opened = open_study(study, search.identity(), warn)
    search.recall(opened)
    search.run(opened, sampler, trials, seed, progress)
    summary = StudySummary(
        sampler=sampler,
        seed=seed,
        path=None if study is None else str(study),
        trials=trials,
        evaluated=len(search.evaluated),
        new=search.new,
        repeats=search.repeats,
        over_budget=search.over_budget,
        **_regrets(search),
    )
    return assemble(landscape, search.rows(), target, summary)


@dataclass
class _Search:
    """The state of one search: which rows of the table were evaluated, and how often that was not needed."""

    landscape: Landscape
    feasible: Indices
    target: Target
    evaluated: set[int] = field(default_factory=set)
    new: int = 0
    repeats: int = 0
    over_budget: int = 0
    _counted: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.axes = Axes.of(self.landscape.table.configs)
        self._affordable = set(self.feasible.tolist())
        self._dearest = float(self.landscape.fraction[self.landscape.eligible].max())

    def identity(self) -> dict[str, Any]:
        """What a study must have been made for to be resumed; JSON types."""
        scores = np.stack([self.landscape.cost, self.landscape.score])
        return {
            "space": {name: list(values) for name, values in self.axes.values.items()},
            "objective": self.landscape.objective.name,
            "target": self.target.told(self.landscape.objective.unit),
            "table": hashlib.sha256(scores.tobytes()).hexdigest()[:16],
        }

    def rows(self) -> Indices:
        """The rows evaluated so far, ascending. InfeasibleError if there are none."""
        if not self.evaluated:
            raise InfeasibleError("no configuration that was tried keeps the budget", "give more --trials")
        return np.array(sorted(self.evaluated), np.intp)

    def recall(self, study: "optuna.Study") -> None:
        """Take over what other searches evaluated, before or meanwhile.

        FileError if a trial is not one of this space.
        """
        distributions = self.axes.distributions()
        for trial in study.get_trials(deepcopy=False):
            if trial.state.name != "COMPLETE" or trial.number in self._counted:
                continue
            self._counted.add(trial.number)
            inside = trial.distributions == distributions and self.axes.contain(trial.params)
            if not inside or len(trial.values) != len(study.directions):
                raise FileError(f"study: trial {trial.number} is not of this space, or damaged")
            self._count(self.axes.row(trial.params))

    def run(
        self,
        study: "optuna.Study",
        sampler: str,
        trials: int,
        seed: int,
        progress: Callable[[int, int], None],
    ) -> None:
        """Ask and tell until `trials` rows are evaluated, or all; a sampler that idles gets an unseen row."""
        wanted = min(trials, len(self.feasible))
        seed = int(np.random.SeedSequence((seed, len(study.trials))).generate_state(1)[0])
        study.sampler = _sampler(sampler, seed)
        unseen = self._shuffled(seed)
        idle = 0
        while len(self.evaluated) < wanted:
            row = next(unseen, None) if sampler == "grid" or idle >= IDLE else None
            if row is not None:
                study.enqueue_trial(self.axes.parameters(row))
            is_new = self._answer(study, study.ask(self.axes.distributions()))
            self.new += is_new
            idle = 0 if is_new else idle + 1
            self.recall(study)
            progress(min(len(self.evaluated), wanted), wanted)

    def _answer(self, study: "optuna.Study", trial: "optuna.Trial") -> bool:
        """Tell score and cost, over budget only the cost; whether that took an evaluation."""
        row = self.axes.row(trial.params)
        fraction = 1.0 if row is None else min(float(self.landscape.fraction[row]), self._dearest)
        affordable = row in self._affordable
        if len(self._affordable) < np.prod([len(values) for values in self.axes.values.values()]):
            trial.set_constraint("budget", 0.0 if affordable else fraction)
        self._counted.add(trial.number)
        study.tell(trial, (float(self.landscape.score[row]) if affordable else 0.0, fraction))
        return self._count(row)

    def _count(self, row: int | None) -> bool:
        """Note a proposal; whether it is a configuration that was not evaluated before."""
        if row is None or row not in self._affordable:
            self.over_budget += 1
        elif row in self.evaluated:
            self.repeats += 1
        else:
            self.evaluated.add(row)
            return True
        return False

    def _shuffled(self, seed: int) -> Iterator[int]:
        order = np.random.default_rng(seed).permutation(self.feasible).tolist()
        return (row for row in order if row not in self.evaluated)


def _sampler(name: str, seed: int) -> "optuna.samplers.BaseSampler":
    from optuna import samplers

    if name == "tpe":
        return samplers.TPESampler(seed=seed)
    if name == "nsga2":
        return samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    return samplers.RandomSampler(
        seed=seed
    )  # for the grid, whose proposals are enqueued, it is only a stand-in


def _regrets(search: _Search) -> dict[str, Any]:
    """How far the evaluated rows fall short of the exhaustive search of the same table."""
    landscape, target = search.landscape, search.target
    best, reached = landscape.hypervolume(search.feasible), landscape.hypervolume(search.rows())
    regrets: dict[str, Any] = {
        "exhaustive_hypervolume": best,
        "hypervolume_regret": (best - reached) / best if best > 0 else 0.0,
        "score_regret": None,
        "cost_regret": None,
    }
    if not target:
        return regrets
    ideal = target.choose(landscape, search.feasible)
    try:
        choice = target.choose(landscape, search.rows())
    except InfeasibleError as error:
        tried = len(search.evaluated)
        raise InfeasibleError(f"{error.message} among the {tried} tried", "give more --trials") from error
    return regrets | {
        "score_regret": float(landscape.score[ideal] - landscape.score[choice]),
        "cost_regret": float(landscape.fraction[choice] - landscape.fraction[ideal]),
    }
