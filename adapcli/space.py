"""Configurations of an adaptive model, and the space they form.

A configuration says how much of the model to run: latent tokens, FFN width and depth (paper section 3).
Nothing here needs torch: search, reports and policies may import it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from adapcli.errors import UsageError


@dataclass(frozen=True, order=True)
class Configuration:
    """One way to run the model.

    tokens: latent tokens, 1 or more.
    width: FFN width in embedding units; an int, or one per block that runs (shallowest first).
    depth: blocks to run, 1 or more.
    """

    tokens: int
    width: int | tuple[int, ...]
    depth: int

    def __str__(self) -> str:
        width = self.width if isinstance(self.width, int) else "-".join(map(str, self.width))
        return f"t{self.tokens} w{width} l{self.depth}"

    def widths(self) -> tuple[int, ...]:
        """The width of each block that runs, shallowest first."""
        return (self.width,) * self.depth if isinstance(self.width, int) else self.width


@dataclass(frozen=True)
class ConfigSpace:
    """The grid tokens x widths x depths, ordered by tokens, then width, then depth."""

    tokens: tuple[int, ...]
    widths: tuple[int, ...]
    depths: tuple[int, ...]

    def __post_init__(self) -> None:
        for axis in ("tokens", "widths", "depths"):
            values = getattr(self, axis)
            if not values or list(values) != sorted(set(values)) or values[0] < 1:
                raise UsageError(
                    f"{axis}: expected distinct positive values in ascending order, got {list(values)}"
                )

    def __len__(self) -> int:
        return len(self.tokens) * len(self.widths) * len(self.depths)

    def __iter__(self) -> Iterator[Configuration]:
        for tokens, width, depth in product(self.tokens, self.widths, self.depths):
            yield Configuration(tokens, width, depth)

    def __getitem__(self, index: int) -> Configuration:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rest, depth = divmod(index, len(self.depths))
        tokens, width = divmod(rest, len(self.widths))
        return Configuration(self.tokens[tokens], self.widths[width], self.depths[depth])

    def index(self, configuration: Configuration) -> int:
        """The position of `configuration` in the enumeration; UsageError if it is not in the space."""
        self.validate(configuration)
        assert isinstance(configuration.width, int)
        t = self.tokens.index(configuration.tokens)
        w = self.widths.index(configuration.width)
        return (t * len(self.widths) + w) * len(self.depths) + self.depths.index(configuration.depth)

    def validate(self, configuration: Configuration) -> None:
        """Raise UsageError, naming the allowed values, unless `configuration` is in the space."""
        given = (
            ("tokens", configuration.tokens),
            ("widths", configuration.width),
            ("depths", configuration.depth),
        )
        for axis, value in given:
            if value not in getattr(self, axis):
                raise UsageError(f"{axis} {value}: not allowed", f"allowed: {_listed(getattr(self, axis))}")

    def pick(
        self, *, tokens: int | None = None, width: int | None = None, depth: int | None = None
    ) -> Configuration:
        """The largest configuration with the given values; UsageError names the allowed ones."""
        asked = (tokens, width, depth)
        axes = {"tokens": self.tokens, "width": self.widths, "depth": self.depths}
        for value, (axis, allowed) in zip(asked, axes.items(), strict=True):
            if value is not None and value not in allowed:
                raise UsageError(f"{axis} {value}: not allowed", f"allowed: {_listed(allowed)}")
        full = (self.tokens[-1], self.widths[-1], self.depths[-1])
        return Configuration(*(f if value is None else value for f, value in zip(full, asked, strict=True)))

    def restrict(
        self,
        *,
        tokens: Sequence[int] | None = None,
        widths: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
    ) -> "ConfigSpace":
        """The sub-grid with the given values (None keeps an axis); UsageError for one that is not allowed."""
        return ConfigSpace(
            tokens=_chosen("tokens", self.tokens, tokens),
            widths=_chosen("widths", self.widths, widths),
            depths=_chosen("depths", self.depths, depths),
        )

    @property
    def full(self) -> Configuration:
        """The largest configuration."""
        return Configuration(self.tokens[-1], self.widths[-1], self.depths[-1])

    @property
    def cheapest(self) -> Configuration:
        """The smallest configuration."""
        return Configuration(self.tokens[0], self.widths[0], self.depths[0])


def _chosen(axis: str, allowed: tuple[int, ...], values: Sequence[int] | None) -> tuple[int, ...]:
    if values is None:
        return allowed
    for value in values:
        if value not in allowed:
            raise UsageError(f"{axis} {value}: not allowed", f"allowed: {_listed(allowed)}")
    if not values:
        raise UsageError(f"{axis}: none given", f"allowed: {_listed(allowed)}")
    return tuple(sorted(set(values)))


def _listed(values: Sequence[int]) -> str:
    consecutive = len(values) > 3 and list(values) == list(range(values[0], values[-1] + 1))
    return f"{values[0]}..{values[-1]}" if consecutive else ", ".join(map(str, values))
