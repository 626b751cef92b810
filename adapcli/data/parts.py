"""Which part of a source (train, val, test) something belongs to, by what it is called."""

import re
from collections.abc import Mapping
from typing import TypeVar

from adapcli.errors import FileError

# Names of parts, and which splits are taken from each.
PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

T = TypeVar("T")


def part_of(name: str) -> str:
    """train, val or test if the name is, or has among its words, one of `PART_NAMES`; "" otherwise."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((PART_NAMES[word] for word in words if word in PART_NAMES), "")


def shared_out(named: Mapping[str, list[T]], by: str, place: str) -> dict[str, list[T]]:
    """The parts that splits are taken from, of things by the name of their part ("" without one).

    by: see `Splitting`. auto: parts count if val or test is among them. By ratio, and where they do not
    count, everything is one part, but for train where something else is there: a model may have learnt from
    it. FileError by folders without val and test.
    """
    named = {part: things for part, things in named.items() if things}
    missing = [part for part in ("val", "test") if part not in named]
    if by == "folders" and missing:
        found = ", ".join(filter(None, named)) or "none"
        raise FileError(
            f"{place}: no part {missing[0]!r} in it", f"looked for train, val and test; found {found}"
        )
    if by == "folders" or (by == "auto" and len(missing) < 2):
        return {part: things for part, things in named.items() if part}
    judged = {part: things for part, things in named.items() if part != "train"} or named
    return {"all": [thing for things in judged.values() for thing in things]}
