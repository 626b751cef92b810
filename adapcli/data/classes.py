"""What labels mean: the classes of a source, their order, and their numbers in a model.

Labels are names (of folders, in a column) or numbers from 0. One rule for all sources:

1. `--classes` says it.
2. Names that the model knows are those classes. They are compared in Unicode's form NFC, in the same case.
3. Numbers 0..K-1 are the model's K classes, whatever they are called.
4. A model whose classes have no names of their own ("0", "1" ..., LABEL_0 ...), and the thousand codes of
   ImageNet's folders (n01440764 ...), are matched by order, if there are as many. That is reported.
5. Anything else is refused.

Names are sorted as texts, numbers by value.
"""

import json
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from adapcli.data.entries import BrokenEntry, Catalogue, Entry
from adapcli.data.spec import Classes, are_classes
from adapcli.errors import FileError, UsageError

MOST_CLASSES = 1_000_000
LARGEST_FILE = 1 << 26
IMAGENET_CODE = re.compile("n[0-9]{8}")
BY_ORDER = "numbered by order"
SAY_CLASSES = (
    "say which is which: --classes FILE (a label per line in the model's order, or JSON {label: class})"
)


def class_name(text: str) -> str:
    """A label as it is compared: in form NFC, so that names that look the same are the same."""
    return unicodedata.normalize("NFC", text)


def in_order(labels: Collection[str]) -> list[str]:
    """Numbers by value if all are, else as texts."""
    if all(map(_is_number, labels)):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdecimal() and len(label) < 10


def known_labels(named: Mapping[str, Sequence[Entry]]) -> set[str]:
    """Labels of all entries that have one."""
    return {
        e.label for entries in named.values() for e in entries if e.label and not isinstance(e, BrokenEntry)
    }


def classes_of(place: str, labels: set[str], names: Sequence[str] = ()) -> tuple[list[str], bool]:
    """Names of classes in order, and whether `labels` are their numbers; `names`: what numbers stand for.

    Without names, numbers count up to the largest. FileError for fewer than two classes, a number that has
    no name, or two equal names.
    """
    if len(labels) < 2:
        found = f"one class only ({next(iter(labels))!r})" if labels else "no class"
        raise FileError(f"{place}: {found}", "expected two or more")
    names = [class_name(name) for name in names]
    twice = (
        next((name for name in names if names.count(name) > 1), None)
        if len(set(names)) < len(names)
        else None
    )
    if twice is not None:
        raise FileError(f"{place}: class name {twice!r} stands for more than one number")
    if not all(label.isdecimal() for label in labels):
        return in_order({*labels, *names}), False
    count, most = max(map(int, labels)) + 1, len(names) or MOST_CLASSES
    if count > most:
        raise FileError(f"{place}: class {count - 1}: there are {most} {'names' if names else 'at most'}")
    return list(names) or [str(number) for number in range(count)], True


def number(
    catalogue: Catalogue, class_names: Sequence[str] | None, said: Classes = ()
) -> tuple[list[str], dict[str, int]]:
    """The class names, and the number of every label that entries have.

    class_names: the model's; None for a model yet to be trained, whose classes are then those of the data.
    said: what `--classes` says. Without labels the names are the model's, and no label has a number.
    FileError if it is not clear which classes are meant.
    """
    if not catalogue.labelled:
        return list(class_names or ()), {}
    labels = list(catalogue.labels)
    names, index, how = _match(catalogue, labels, None if class_names is None else list(class_names), said)
    catalogue.findings.decide("classes", how)
    if catalogue.numbered:
        return names, {str(place): index[label] for place, label in enumerate(labels) if label in index}
    return names, index


def _match(
    catalogue: Catalogue, labels: list[str], known: list[str] | None, said: Classes
) -> tuple[list[str], dict[str, int], str]:
    """Names, number of every label, and how it was decided."""
    if said:
        return _as_said(catalogue.place, labels, known, said)
    if known is None:
        by = "by value" if all(map(_is_number, labels)) else "by name"
        return labels, {label: place for place, label in enumerate(labels)}, f"the data's own, in order {by}"
    places = {class_name(name): place for place, name in enumerate(known)}
    plain = catalogue.numbered and labels == [str(place) for place in range(len(labels))]
    if not plain and all(label in places for label in labels):
        return known, {label: places[label] for label in labels}, "matched with the model's by name"
    if _are_numbers_of(labels, len(known)) and (plain or not any(label in places for label in labels)):
        return known, {label: int(label) for label in labels}, "numbers of the model's classes"
    nameless = _nameless(known) or all(map(IMAGENET_CODE.fullmatch, labels))
    if len(known) == len(labels) and nameless and not any(label in places for label in labels):
        return known, {label: place for place, label in enumerate(labels)}, BY_ORDER
    raise _unclear(catalogue, labels, known, places)


def _are_numbers_of(labels: Sequence[str], count: int) -> bool:
    """Whether all labels are different numbers below `count`."""
    values = {int(label) for label in labels if _is_number(label)}
    return len(values) == len(labels) and max(values) < count


def _nameless(names: Sequence[str]) -> bool:
    """Whether a model's classes are called by their numbers alone."""
    return all(
        re.fullmatch(rf"(label|class)?[ _-]?{place}", name.lower()) for place, name in enumerate(names)
    )


def _unclear(
    catalogue: Catalogue, labels: list[str], known: list[str], places: Mapping[str, int]
) -> FileError:
    what = "class folders" if catalogue.kind == "folder" else "classes"
    unknown = [label for label in labels if label not in places]
    common = [label for label in labels if label in places]
    alike = {name.casefold(): name for name in known}
    case = [f"{label!r} for {alike[label.casefold()]!r}" for label in unknown if label.casefold() in alike]
    about = f"; known are {_some(common)}" if common else ""
    hint = f"it knows {len(known)}: {_some(known)}; {SAY_CLASSES}"
    return FileError(
        f"{catalogue.place}: {len(unknown)} of {len(labels)} {what} are unknown to the model: "
        f"{_some(unknown)}{about}",
        f"is {case[0]} meant? {hint}" if case else hint,
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:80]) for name in names[:5]) + (", ..." if len(names) > 5 else "")


def _as_said(
    place: str, labels: list[str], known: list[str] | None, said: Classes
) -> tuple[list[str], dict[str, int], str]:
    how = "as --classes says"
    if isinstance(said, Mapping):
        meant: dict[str, int | str] = {class_name(label): meaning for label, meaning in said.items()}
    else:
        lines = [class_name(line) for line in said]
        if len(set(lines)) < len(lines):
            raise UsageError("--classes: a label is there twice")
        if known is not None and len(lines) != len(known):
            raise UsageError(f"--classes: {len(lines)} labels, the model has {len(known)} classes")
        of_numbers = not set(labels) <= set(lines) and _are_numbers_of(labels, len(lines))
        names = lines if of_numbers or known is None else known
        meant = {str(n) if of_numbers else line: n for n, line in enumerate(lines)}
        if known is not None and of_numbers:
            meant = {label: lines[int(label)] for label in meant}
        elif known is None:
            known = names
    missing = [label for label in labels if label not in meant]
    if missing:
        raise FileError(
            f"{place}: --classes does not name {_some(missing)}", f"it names {_some(list(meant))}"
        )
    if known is None:
        known = _names_said([meant[label] for label in labels], labels)
    places = {class_name(name): number for number, name in enumerate(known)}
    index = {label: _number_said(meant[label], places) for label in labels}
    return known, index, how


def _names_said(meanings: Sequence[int | str], labels: Sequence[str]) -> list[str]:
    """Of a model yet to be trained."""
    numbers = [meaning for meaning in meanings if isinstance(meaning, int)]
    if not numbers:
        return in_order({class_name(str(meaning)) for meaning in meanings})
    if len(numbers) < len(meanings):
        raise UsageError("--classes: give every label a number, or every label a name")
    by_number = dict(zip(numbers, labels, strict=True))
    return [by_number.get(number, str(number)) for number in range(max(numbers) + 1)]


def _number_said(meaning: int | str, places: Mapping[str, int]) -> int:
    if isinstance(meaning, int):
        if not 0 <= meaning < len(places):
            raise UsageError(f"--classes: class {meaning}: the model has {len(places)}, from 0")
        return meaning
    if class_name(meaning) not in places:
        raise UsageError(f"--classes: class {meaning!r}: the model has {_some(list(places))}")
    return places[class_name(meaning)]


def read_classes(path: Path) -> Classes:
    """The content of a file for `--classes`: lines of text, or JSON. FileError if it is neither."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise FileError(f"{path}: more than {LARGEST_FILE:,} bytes")
        text = path.read_text("utf-8-sig")
        said = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: cannot be read: {(str(error).splitlines() or [''])[0][:200]}") from error
    if isinstance(said, list) and path.suffix.lower() != ".json":
        said = [line.strip() for line in said if line.strip()]
    if not said or not are_classes(said):
        raise FileError(
            f"{path}: not usable", "expected a label per line, or JSON {label: class name or number}"
        )
    return said if isinstance(said, dict) else tuple(said)
