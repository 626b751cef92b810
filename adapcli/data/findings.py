"""What was decided about a source of data while it was listed, and what of it is not used."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """Something that was inferred. about: parts, classes, columns or files."""

    about: str
    text: str


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
        decision = Decision(about, text)
        if decision not in self.decisions:
            self.decisions.append(decision)

    def leave(self, reason: str, first: str, count: int = 1) -> None:
        """Record that `count` things, the first of that name, are not used."""
        before = self._left.get(reason)
        self._left[reason] = LeftOut(
            reason, count + (before.count if before else 0), before.first if before else first
        )

    @property
    def left_out(self) -> list[LeftOut]:
        """By reason."""
        return list(self._left.values())
