"""What executors are given and what they answer: images in any portions, answers in the images' order."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapcli.errors import UsageError
from adapcli.model.perceiver import Output
from adapcli.space import Configuration
from policies.shown import short_repr

Images = Tensor | Iterable[Tensor]
"""Images (N, channels, height, width), normalised, or a stream of such portions of any length."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Piece:
    """The answers to n images, as soon as they are known.

    index (n,): their places in the stream; output: the model's, n samples, on its device; configurations: the
    one whose answer it is, n; cost_flops (n,) int64: everything executed for it.
    """

    index: Indices
    output: Output
    configurations: tuple[Configuration, ...]
    cost_flops: Indices


@dataclass(frozen=True)
class Answers:
    """The answers to N images, in their order.

    output, configurations and cost_flops as in Piece. near: decisions so close to a threshold that another
    batch, whose last digits differ, might have decided otherwise. over_budget: images that would have gone
    on but for the budget.
    """

    __repr__ = short_repr

    output: Output
    configurations: tuple[Configuration, ...]
    cost_flops: Indices
    near: int = 0
    over_budget: int = 0


def in_order(pieces: Iterable[Piece]) -> Answers:
    """All pieces of a stream together, in the order of the images."""
    found = list(pieces)
    if not found:
        return Answers(Output(), (), np.empty(0, np.int64))
    order = np.argsort(np.concatenate([piece.index for piece in found]))
    configurations = [c for piece in found for c in piece.configurations]
    return Answers(
        joined([piece.output for piece in found], order),
        tuple(configurations[i] for i in order),
        np.concatenate([piece.cost_flops for piece in found])[order],
    )


def joined(outputs: Sequence[Output], order: Indices) -> Output:
    """All samples of all outputs, in the order given."""
    columns = {name: [getattr(output, name) for output in outputs] for name in _NAMES}
    return _chosen({name: None if c[0] is None else torch.cat(c) for name, c in columns.items()}, order)


def rows_of(output: Output, rows: Indices) -> Output:
    """Some of an output's samples."""
    return _chosen({name: getattr(output, name) for name in _NAMES}, rows)


_NAMES = tuple(field.name for field in fields(Output))


def _chosen(columns: dict[str, Tensor | None], rows: Indices) -> Output:
    return Output(
        **{n: None if t is None else t.index_select(0, on(rows, t.device)) for n, t in columns.items()}
    )


def on(rows: Indices, device: torch.device) -> Tensor:
    """Rows as an index on a device; the copy waits for nothing."""
    return torch.from_numpy(rows).to(device, non_blocking=True)


def portions(x: Images, size: int) -> Iterator[Tensor]:
    """The images of a stream in portions of `size`, the last one shorter. UsageError where shapes differ."""
    waiting: list[Tensor] = []
    for part in [x] if isinstance(x, Tensor) else x:
        if part.ndim != 4 or (waiting and part.shape[1:] != waiting[0].shape[1:]):
            shapes = f"{tuple(part.shape)}" + (f" after {tuple(waiting[0].shape)}" if waiting else "")
            raise UsageError(f"images of shape {shapes}: expected (N, channels, height, width), all alike")
        waiting.append(part)
        while sum(map(len, waiting)) >= size:
            whole = torch.cat(waiting) if len(waiting) > 1 else waiting[0]
            waiting = [whole[size:]]
            yield whole[:size]
    rest = [part for part in waiting if len(part)]
    if rest:
        yield torch.cat(rest)
