"""Short `repr`s: arrays by type and shape, long values by their length, a few hundred characters in all."""

from dataclasses import fields, is_dataclass
from typing import Any

LONGEST, LONGEST_VALUE = 280, 60


def short_repr(thing: Any) -> str:
    """For dataclasses: `__repr__ = short_repr` in the body. Fields that are None are left out."""
    shown, size = [], 0
    for field in fields(thing):
        value = getattr(thing, field.name)
        if value is None or not field.repr:
            continue
        shown.append(f"{field.name}={short(value)}")
        size += len(shown[-1]) + 2
        if size > LONGEST - len(type(thing).__name__):
            shown[-1] = "..."
            break
    return f"{type(thing).__name__}({', '.join(shown)})"


def short(value: Any) -> str:
    """One value in at most `LONGEST_VALUE` characters, without looking through a large one."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        kind = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
        return f"{kind} {' x '.join(map(str, shape))}" if len(shape) else str(value)
    if isinstance(value, tuple | list | dict | set | frozenset) and len(value) > 8:
        return f"<{len(value)} values>"
    if isinstance(value, str | int | float | bool | None | tuple | list | dict):
        text = repr(value)
        if len(text) <= LONGEST_VALUE:
            return text
    if isinstance(value, str):
        return f"{value[: LONGEST_VALUE - 6]!r}..."
    if isinstance(value, tuple | list | dict):
        return f"<{len(value)} values>"
    if is_dataclass(value) or len(text := repr(value)) > LONGEST_VALUE:
        return f"{type(value).__name__}(...)"
    return text
