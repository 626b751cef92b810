"""What was decided about a source of data while it was listed, and what of it is not used."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """Something that was inferred. about: parts, classes, columns, files, pixels or masks.

    warning: whether a sweep or training must say it: it may be other than meant.
    """

    about: str
    text: str
    warning: bool = False


@dataclass(frozen=True)
class LeftOut:
    """What is not used: why, how many, and the first of them."""

    reason: str
    count: int
    first: str


class Findings:
    """Collects decisions and what is left out."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self._left: dict[str, LeftOut] = {}

    def decide(self, about: str, text: str) -> None:
        """Record a decision; once, however often it is made."""
        self._record(Decision(about, text))

    def warn(self, about: str, text: str) -> None:
        """The same for one that a sweep or training must say."""
        self._record(Decision(about, text, warning=True))

    def _record(self, decision: Decision) -> None:
        if decision not in self.decisions:
            self.decisions.append(decision)

    def leave(self, reason: str, first: str, count: int = 1) -> None:
        """Record that `count` things, the first of that name, are not used."""
        before = self._left.get(reason)
        self._left[reason] = LeftOut(
            reason, count + (before.count if before else 0), before.first if before else first
        )

    def add(self, other: "Findings") -> None:
        """Record the decisions of another too; what is left out of one source is the same in both."""
        for decision in other.decisions:
            self._record(decision)

    @property
    def left_out(self) -> list[LeftOut]:
        """By reason."""
        return list(self._left.values())
