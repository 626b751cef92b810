"""Which part of a source (train, val, test) an image belongs to, and which split of a table or a training.

Parts are told by names: of folders, arrays, files, or of splits in a saved data set; one function decides for
all sources. Splits are then drawn from the parts:

- By parts ("folders", and "auto" where there are any), fit, tune and calibration are taken from val
  (12 : 4 : 8), and test is test; where only val or only test is there, all four are taken from it.
- By ratio, and where there are no parts, all four are taken from everything (12 : 4 : 8 : 20, or other
  shares) but the part train.
- train is the part of that name; without one, the first `train_share` of a hash of the content, which no
  other split is then drawn from.

The split of an image depends on its content, the shares and, but for train, the seed alone: adding images
moves no other, and copies of one stay together. Images that are merely similar (two shots of one thing) may
still be parted.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TypeVar

from adapcli.data.entries import Catalogue, Entry, scramble, split_of
from adapcli.data.findings import Findings
from adapcli.data.spec import DataSpec
from adapcli.errors import FileError

UNUSED = "unused"
PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "development": "val",
    "eval": "val",
    "evaluation": "val",
    "test": "test",
    "testing": "test",
    "unlabeled": UNUSED,
    "unlabelled": UNUSED,
    "unsupervised": UNUSED,
    "extra": UNUSED,
}
"""Names of parts. What is `UNUSED` is no class and none of the three, and is left out unless asked for."""
SAY_PARTS = "say which is which: --parts train=NAME,val=NAME,test=NAME; what is not named is left out"

T = TypeVar("T")


def part_of(name: str) -> str:
    """train, val, test or `UNUSED` by a name or path; "" if nothing tells.

    The last piece of a path decides, by a word of `PART_NAMES` in it (train-00000-of-00002.parquet); else the
    nearest folder that is called like a part (validation/0000.parquet). FileError for two parts in one name.
    """
    *folders, own = PurePosixPath(name).parts or ("",)
    words = [word for word in re.split(r"[^a-z]+", own.lower()) if word in PART_NAMES]
    found = dict.fromkeys(PART_NAMES[word] for word in words)
    if len(found) > 1:
        raise FileError(f"{name}: named after more than one part: {', '.join(found)}", SAY_PARTS)
    named = (part_of_folder(folder) for folder in reversed(folders))
    return next(iter(found), "") or next(filter(None, named), "")


def part_of_folder(name: str) -> str:
    """The same for a folder, whose whole name must be one of `PART_NAMES`, numbers apart (train2017)."""
    return PART_NAMES.get(name.lower().rstrip("0123456789_-"), "")


def divide(
    named: Mapping[str, list[T]], spec: DataSpec, place: str, findings: Findings, what: str = "files"
) -> dict[str, list[T]]:
    """Things by part: "train", "val" and "test", or "all".

    named: things by the name of what they are in: a file's path in the source, an array, a folder. what: what
    these are, for messages. FileError if some belong to a part and others to none that is known, or
    if val or test is asked for and not there; nothing is left out without being recorded in `findings`.
    """
    named = {name: things for name, things in named.items() if things}
    parts = _assigned(named, spec, place, findings) if spec.parts else _by_names(named, spec, place, what)
    groups: dict[str, list[T]] = {}
    for name, part in parts.items():
        groups.setdefault(part, []).extend(named[name])
    only_unused = set(groups) <= {UNUSED}
    for name, part in parts.items():
        if part == UNUSED and not only_unused:
            findings.leave(f"{what} that are no part train, val or test", name, len(named[name]))
    if only_unused:
        groups = {"": groups.get(UNUSED, [])}
    groups.pop(UNUSED, None)
    return _grouped(groups, spec.splitting.by, place, list(named), findings)


def _assigned(named: Mapping[str, list[T]], spec: DataSpec, place: str, findings: Findings) -> dict[str, str]:
    """Parts as `spec.parts` says; FileError for a name that is not there."""
    found = {}
    for name in named:
        matching = {part for pattern, part in spec.parts.items() if _matches(pattern, name)}
        if len(matching) > 1:
            raise FileError(f"{place}: {name}: in more than one part: {', '.join(sorted(matching))}")
        found[name] = next(iter(matching), UNUSED)
    for pattern in spec.parts:
        if not any(_matches(pattern, name) for name in named):
            there = ", ".join(map(str, list(named)[:8])) or "none"
            raise FileError(f"{place}: --parts: {pattern!r} is not in it", f"found {there}")
    findings.decide("parts", "as --parts says: " + ", ".join(f"{k} is {v}" for k, v in spec.parts.items()))
    return found


def _matches(pattern: str, name: str) -> bool:
    """Whether a name, its last piece without ending, or one of its folders is what the pattern says."""
    pieces = PurePosixPath(name).parts or ("",)
    return any(fnmatchcase(text, pattern) for text in (name, PurePosixPath(name).stem, *pieces))


def _by_names(named: Mapping[str, list[T]], spec: DataSpec, place: str, what: str) -> dict[str, str]:
    parts = {name: part_of(name) for name in named}
    stray = [name for name, part in parts.items() if not part]
    known = [name for name, part in parts.items() if part not in ("", UNUSED)]
    if not stray or not known or spec.splitting.by == "ratio":
        return parts
    if spec.splitting.by == "folders":
        return {name: part or UNUSED for name, part in parts.items()}
    raise FileError(
        f"{place}: {what} {_some(known)} are parts, and {_some(stray)} are not known as such",
        f"{SAY_PARTS}; --split folders leaves those out; --split ratio uses all but train",
    )


def _some(names: list[str]) -> str:
    more = ", ..." if len(names) > 5 else ""
    return ", ".join(repr(name or "(none)") for name in names[:5]) + more


def _grouped(
    groups: dict[str, list[T]], by: str, place: str, names: list[str], findings: Findings
) -> dict[str, list[T]]:
    """Parts as splits are drawn from them. names: what is there, for messages."""
    missing = [part for part in ("val", "test") if part not in groups]
    if by == "folders" and missing:
        called = " or ".join(name for name, part in PART_NAMES.items() if part == missing[0])
        raise FileError(
            f"{place}: no part {missing[0]!r} in it", f"looked for {called}; found {_some(names)}"
        )
    if set(groups) == {"train"}:
        findings.decide("parts", "only a part train is there: every split is drawn from it")
        return {"all": groups["train"]}
    if by == "ratio" or set(groups) <= {"", "train"}:
        train = {"train": groups.pop("train")} if "train" in groups else {}
        if set(groups) - {""}:
            findings.decide("parts", "by ratio: splits are shares of everything that is not train")
        return train | {"all": [thing for things in groups.values() for thing in things]}
    return {part: groups[part] for part in ("train", "val", "test") if part in groups}


def choose(catalogue: Catalogue, split: str, spec: DataSpec) -> list[tuple[str, Entry]]:
    """(content key, entry) of a split, in the order of a hash, so that any beginning is a fair sample.

    Entries of a block stay together. FileError if there are none.
    """
    seed, both = spec.seed, {"val", "test"} <= set(catalogue.parts)
    entries = catalogue.parts[part_for(catalogue, split, spec)]
    keyed = [(key_of(entry), entry) for entry in entries]
    shares = {name: share for name, share in spec.splitting.shares.items() if not (both and name == "test")}
    drawn = "train" not in catalogue.parts and (split == "train" or split in shares)
    if drawn and spec.train_share:
        keyed = [pair for pair in keyed if _for_training(pair[0], spec) == (split == "train")]
    if split in shares:
        keyed = [pair for pair in keyed if split_of(pair[0], seed, shares) == split]
    if not keyed:
        raise FileError(
            f"{catalogue.place}: none of {len(entries)} images falls into the split {split!r}",
            "splits are drawn by ratio: more images are needed",
        )
    return sorted(keyed, key=lambda pair: (scramble(pair[1].block or pair[0], seed), pair[1].name))


def for_training(catalogue: Catalogue, spec: DataSpec) -> list[Entry]:
    """The entries of split train, in the order of the source. Content is read only without a part train.

    FileError if there are none.
    """
    entries = catalogue.parts[part_for(catalogue, "train", spec)]
    if "train" in catalogue.parts:
        return list(entries)
    found = [entry for entry in entries if _for_training(key_of(entry), spec)]
    if not found:
        raise FileError(f"{catalogue.place}: none of {len(entries)} images falls into the split 'train'")
    return found


def _for_training(key: str, spec: DataSpec) -> bool:
    """Whatever the seed: what a model was trained on stays out of splits that are drawn with another."""
    return scramble(f"train {key}", 0) < spec.train_share


def part_for(catalogue: Catalogue, split: str, spec: DataSpec) -> str:
    """Which part a split is taken from. FileError for train, if there is none and no share to draw."""
    parts = catalogue.parts
    if split == "train" and "train" in parts:
        return "train"
    if split == "train" and not spec.train_share:
        what = "folder" if catalogue.kind == "folder" else "part"
        raise FileError(
            f"{catalogue.place}: no {what} 'train' in it",
            f"expected {what}s train, val and test, or a share of the images to train on",
        )
    if {"val", "test"} <= set(parts):
        return "test" if split == "test" else "val"
    return next(part for part in ("val", "test", "all") if part in parts)


def key_of(entry: Entry) -> str:
    """Its content key; its name if it cannot be read, so that it is counted in some split."""
    try:
        return entry.key()
    except OSError:
        return entry.name
