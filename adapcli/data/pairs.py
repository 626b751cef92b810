"""Folders of pictures with a mask or a depth map each: which file belongs to which, and what they hold.

Layouts, found by what is there (PART: train, val, test or the like):

    images/NAME.jpg            masks/NAME.png             classes from 0, 255 is not scored
    images/PART/NAME.jpg       masks/PART/NAME.png
    PART/images/NAME.jpg       PART/masks/NAME.png
    images/training/NAME.jpg   annotations/training/...   ADE20K: classes from 1, 0 is not scored
    rgb/NAME.png               depth/NAME.png             NYUv2: 16 bits, 1000 a metre, 0 is unknown

image, images and rgb mean the same; so do mask, masks and labels; and depth and depths. Names may differ by
their ending, and by rgb_, img_, depth_ and the like before or behind them. `dataset.json` in the folder may
say what their values mean, see `coding`:

    class_names    a list
    first          the value of class 0; ignore: the value that is not scored
    foreground     of masks of two values, the one of class 1 (0 is class 0)
    values         {"0": 0, "255": 1}: the class of each value, null for those that are not scored
    colours        {"#000000": 0, "#FF0000": 1}: the same for masks in colours
    depth_scale    values per metre
    orientation    "stored" or "upright": which pixels targets of images that EXIF turns were made on
"""

import re
from dataclasses import dataclass
from pathlib import Path

from adapcli.data.coding import ADE20K_CLASSES, Pair, decide, description
from adapcli.data.entries import Catalogue, content_key
from adapcli.data.findings import Findings
from adapcli.data.images import suffixes
from adapcli.data.listing import FileEntry, files_in, readable_name, subfolders
from adapcli.data.parts import UNUSED, divide, part_of_folder
from adapcli.data.spec import DataSpec
from adapcli.data.targets import DESCRIPTION, Coding
from adapcli.errors import FileError
from adapcli.model.config import Task

PICTURES = ("images", "image", "rgb")
ADE20K = "annotations"
TARGETS = {
    "segmentation": ("masks", "mask", "labels", ADE20K),
    "depth": ("depths", "depth"),
}
ADE20K_NAMES = "objectInfo150.txt"
_AROUND = re.compile(r"^(?:sync_)?(?:rgb|image|img|depth|mask|label)_|_(?:rgb|image|img|depth|mask|labels?)$")


@dataclass(frozen=True)
class PairEntry(FileEntry):
    """A picture and the file of its target. Its name is the picture's path in the data folder."""

    target: Path

    def key(self) -> str:
        """Of the picture's content: the same picture falls into the same split, whatever its target."""
        return content_key(self.path)

    def mark(self) -> str:
        """Both sizes; of a file that is not there, nothing: it is skipped when it is read."""
        return " ".join(
            str(path.stat().st_size) if path.exists() else "" for path in (self.path, self.target)
        )


@dataclass(frozen=True)
class Pairs:
    """A folder of pairs. class_names: of the masks, None if nothing tells them.

    explained: whether `dataset.json` or the layout says what values mean, rather than the values themselves.
    """

    catalogue: Catalogue
    coding: Coding
    class_names: tuple[str, ...] | None
    explained: bool = False

    @property
    def decisions(self) -> tuple[str, ...]:
        """What was decided about the folder."""
        return tuple(decision.text for decision in self.catalogue.findings.decisions)


def list_pairs(root: Path, task: Task, spec: DataSpec | None = None) -> Pairs:
    """The pairs of every part of a folder, by what is there. None is decoded.

    FileError: no such folder, no layout that is known, no pictures, a picture without its target, folders
    that may be parts or not, a `dataset.json` that says something else.
    """
    if not root.is_dir():
        what = "a file, not a folder" if root.exists() else "no such folder"
        raise FileError(f"{root}: {what}", f"expected images/ and {TARGETS[task][0]}/")
    said, spec, findings = description(root), spec or DataSpec(), Findings()
    folders = _folders(root, task, spec, findings)
    named = {name: _pairs(root, *pair, findings) for name, pair in folders.items()}
    if not any(named.values()):
        raise FileError(f"{root}: no pictures found in {next(iter(folders.values()))[0]}")
    parts = {"all": named[""]} if set(named) == {""} else divide(named, spec, str(root), findings, "folders")
    annotations = any(target.name == ADE20K or target.parent.name == ADE20K for _, target in folders.values())
    coding, classes = decide(
        root,
        task,
        [Pair(entry.path, entry.target) for entries in parts.values() for entry in entries],
        said,
        findings,
        annotations=annotations,
        depth_scale=spec.depth_scale,
    )
    catalogue = Catalogue("folder", str(root), parts, (), findings=findings)
    names = _names(root, said.get("class_names"), classes, annotations=annotations)
    explained = classes is not None or "first" in said or "ignore" in said
    return Pairs(catalogue, coding, names, explained)


def _names(
    root: Path, said: list[str] | None, classes: int | None, *, annotations: bool
) -> tuple[str, ...] | None:
    """Of the classes; FileError if there are fewer than the values of masks are said to mean."""
    if said is not None:
        if classes is not None and classes > len(said) and not annotations:
            raise FileError(f"{root / DESCRIPTION}: {classes} classes in values, {len(said)} class_names")
        return tuple(said)
    if classes is None:
        return None
    if annotations and classes == ADE20K_CLASSES:
        return tuple(_ade20k_names(root))
    return ("background", "foreground") if classes == 2 else tuple(map(str, range(classes)))


def _folders(root: Path, task: Task, spec: DataSpec, findings: Findings) -> dict[str, tuple[Path, Path]]:
    """The folders of pictures and of targets, by the name of their part; "" if there are no parts."""
    here = _both(root, task)
    if here is not None:
        inner = [child.name for child in subfolders(here[0])]
        if not spec.parts and not any(map(_is_part, inner)):
            return {"": here}
        found = {name: (here[0] / name, here[1] / name) for name in inner}
        loose = [path.name for path in here[0].iterdir() if _is_picture(path) and path.is_file()]
        if loose:
            findings.leave("images beside the folders", loose[0], len(loose))
    else:
        both = {child.name: _both(child, task) for child in subfolders(root)}
        found = {name: pair for name, pair in both.items() if pair is not None}
        for name, pair in both.items():
            if pair is None:
                findings.leave("folders without images and targets", name)
        if not spec.parts and not any(map(_is_part, found)):
            found = {}
    usable = {name: pair for name, pair in found.items() if pair[1].is_dir()}
    for name in found.keys() - usable.keys():
        findings.leave("folders without targets", name)
    if not usable:
        targets = " or ".join(TARGETS[task])
        raise FileError(
            f"{root}: no folders of pictures and {'masks' if task == 'segmentation' else 'depth maps'}",
            f"looked for {' or '.join(PICTURES)} beside {targets}, here and in train, val and test",
        )
    return usable


def _is_part(name: str) -> bool:
    return part_of_folder(name) not in ("", UNUSED)


def _both(folder: Path, task: Task) -> tuple[Path, Path] | None:
    pictures = [folder / name for name in PICTURES if (folder / name).is_dir()]
    targets = [folder / name for name in TARGETS[task] if (folder / name).is_dir()]
    return (pictures[0], targets[0]) if pictures and targets else None


def _pairs(root: Path, pictures: Path, targets: Path, findings: Findings) -> list[PairEntry]:
    known = {_name(path, targets): path for path in files_in(targets, findings) if _is_picture(path)}
    found = [path for path in files_in(pictures, findings) if _is_picture(path)]
    alone = [path for path in found if _name(path, pictures) not in known]
    if alone:
        raise FileError(
            f"{alone[0]}: has no {targets.name.rstrip('s')}, and {len(alone) - 1} more of {len(found)}",
            f"looked for {targets / _name(alone[0], pictures)}.png",
        )
    return [
        PairEntry(readable_name(path.relative_to(root)), "", path, known[_name(path, pictures)])
        for path in found
    ]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in suffixes()


def _name(path: Path, folder: Path) -> str:
    """What a picture and its target have in common."""
    return str(path.relative_to(folder).with_name(_AROUND.sub("", path.stem)))


def _ade20k_names(root: Path) -> list[str]:
    """Of the 150 classes; the first synonym of each, where the list that comes with the data is there."""
    path = root / ADE20K_NAMES
    plain = [str(number) for number in range(1, ADE20K_CLASSES + 1)]
    if not path.is_file() or path.stat().st_size > 1 << 20:
        return plain
    lines = path.read_text("utf-8", "replace").splitlines()[1:]
    names = [line.rstrip().rpartition("\t")[2].split(",")[0].strip() for line in lines if line.strip()]
    return names if len(names) == ADE20K_CLASSES == len(set(names)) else plain
