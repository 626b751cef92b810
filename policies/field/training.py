"""Train whoever can take part, one after another; what is done is kept, and found again."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from policies.base import Progress
from policies.curves import Yardstick
from policies.errors import AdapError, UsageError
from policies.field.entrant import Entrant, entrants
from policies.field.member import JSON_NAME, SPLITS, Member, Request, train_member
from policies.field.result import Entry, Field
from policies.table import OutcomeTable

Announce = Callable[[str], AbstractContextManager[Progress]]


def train_field(
    table: OutcomeTable,
    request: Request,
    folder: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    only: Sequence[str] | None = None,
    resume: bool = False,
    announce: Announce | None = None,
) -> Field:
    """Train the field on the fit split, choose on tune, judge on test; each member is kept in `folder`.

    seeds: of learning by trial; the others take the first. only: names of entrants, by default all. resume:
    members that are in the folder are not trained again. announce: called with a label, gives the progress
    of one training. A member that cannot be trained is left out with the reason, see `Field.skipped`.

    Raises UsageError for an unknown name, FileError for an empty split, and if a member in the folder was
    made for something else, or for a promise that needs labels where there are none; AdapError if nothing could be trained.
    """
    chosen, request = _chosen(only), request.on(table)
    yardsticks = {
        split: Yardstick.of(table, split, resamples=request.resamples, seed=request.seed) for split in SPLITS
    }
    work = _Work(table, request, Path(folder), yardsticks, resume, announce or _silent)
    entries, skipped = [], {}
    for entrant in chosen:
        try:
            entries.append(Entry(entrant, tuple(work.members(entrant, seeds))))
        except _Left as left:
            skipped[entrant.name] = str(left)
    if not entries:
        raise AdapError(f"nothing in the field could be trained: {'; '.join(skipped.values())}")
    return Field.of(entries, skipped, table, request, yardsticks)


class _Left(Exception):  # noqa: N818 - a reason, not an error
    """An entrant that is left out."""


class _Work:
    """What every training of one field shares."""

    def __init__(
        self,
        table: OutcomeTable,
        request: Request,
        folder: Path,
        yardsticks: Mapping[str, Yardstick],
        resume: bool,
        announce: Announce,
    ) -> None:
        self._table, self._request, self._folder = table, request, folder
        self._yardsticks, self._resume, self._announce = yardsticks, resume, announce

    def members(self, entrant: Entrant, seeds: Sequence[int]) -> list[Member]:
        """One per seed; raises _Left, with the reason."""
        lacking = entrant.lacks(self._table)
        if lacking:
            raise _Left(lacking)
        return [self._member(entrant, seed) for seed in (seeds if entrant.by_trial else seeds[:1])]

    def _member(self, entrant: Entrant, seed: int) -> Member:
        folder = member_folder(self._folder, entrant.name, seed)
        if self._resume and (folder / JSON_NAME).exists():
            return Member.load(folder, entrant, self._request, self._table, self._yardsticks)
        label = f"training {entrant.name}" + (f", seed {seed}" if entrant.by_trial else "")
        try:
            with self._announce(label) as progress:
                member = train_member(
                    entrant, self._table, self._request, seed, self._yardsticks, progress=progress
                )
        except AdapError as error:
            raise _Left(error.message) from error
        member.save(folder, self._request, self._yardsticks)
        return member


def member_folder(folder: Path, name: str, seed: int) -> Path:
    """Where a field keeps one training."""
    return folder / "members" / name / f"seed-{seed}"


def _chosen(only: Sequence[str] | None) -> list[Entrant]:
    known = {entrant.name: entrant for entrant in entrants()}
    unknown = [name for name in only or () if name not in known]
    if unknown:
        raise UsageError(f"{unknown[0]!r}: not in the field", f"allowed: {', '.join(known)}")
    return [entrant for name, entrant in known.items() if only is None or name in only]


def _silent(label: str) -> AbstractContextManager[Progress]:
    return nullcontext(lambda done, total: None)
