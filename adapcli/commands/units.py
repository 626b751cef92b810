"""Amounts as people read them."""

from collections.abc import Sequence

from policies.texts import percent as percent_text

__all__ = ["bytes_text", "flops_text", "percent_text", "seconds_text"]


def flops_text(count: float) -> str:
    """FLOPs, such as 76.38 GFLOPs."""
    return f"{_scaled(count, ('', 'k', 'M', 'G', 'T', 'P', 'E'), 1000)}FLOPs"


def bytes_text(count: float) -> str:
    """Bytes, such as 3.2 MiB."""
    return f"{_scaled(count, ('', 'Ki', 'Mi', 'Gi', 'Ti'), 1024)}B"


def seconds_text(seconds: float) -> str:
    """A duration in the largest unit that fits: 0.3 s, 12 min, 3.5 h."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _scaled(count: float, prefixes: Sequence[str], base: int) -> str:
    step = 0
    while abs(count) >= base and step < len(prefixes) - 1:
        count, step = count / base, step + 1
    if not step:
        return f"{count:.4g} "
    digits = f"{count:#.4g}".removesuffix(".")  # all four digits, also zeros, but no bare point
    return f"{digits} {prefixes[step]}"
