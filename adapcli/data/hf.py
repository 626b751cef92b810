"""`hf:PATH` or `hf:OWNER/NAME`: data sets as Hugging Face's libraries keep them.

On disk: a folder made by `save_to_disk` (one split, or several), a folder of Parquet files, or one of these.
On the hub: the Parquet files of a data set, `OWNER/NAME` or `OWNER/NAME@REVISION`, of which the groups of
rows that are needed are fetched when they are needed, and no more. Only bytes of pictures and classes are
read: no script of a data set is ever run, no path or address in it followed. Needs the extra `data`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from adapcli.data.classes import class_name, classes_of, known_labels
from adapcli.data.entries import BrokenEntry, Catalogue, Entry
from adapcli.data.findings import Findings
from adapcli.data.listing import files_in, readable_name
from adapcli.data.parts import divide
from adapcli.data.spec import DataSpec
from adapcli.data.tables import ArrowFile, ParquetFile, RowFile, TableEntry
from adapcli.errors import FileError, UnavailableError, pip_install

ON_HUB = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")


def open_hf(place: str, spec: DataSpec) -> Catalogue:
    """What a data set holds. UnavailableError without the extra, or without the hub."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UnavailableError("hf: needs the data extra", pip_install("data")) from error
    root, findings = Path(place).expanduser(), Findings()
    local = root.exists() or not ON_HUB.fullmatch(place)
    files = list(_on_disk(root, spec, findings) if local else _on_hub(place, spec))
    if not files:
        raise FileError(f"{place}: no data set in it", "expected what save_to_disk made, or .parquet files")
    named, labelled = _rows(files, findings)
    classes, numbered = _classes(place, named, files) if labelled else ([], False)
    parts = divide(named, spec, place, findings, "files")
    return Catalogue("hf", str(root) if root.exists() else place, parts, classes, numbered, findings)


def _rows(files: list[tuple[str, RowFile]], findings: Findings) -> tuple[dict[str, list[Entry]], bool]:
    """Entries by part, and whether they have labels; those of files without are then left out."""
    labels = [(part, file, file.labels()) for part, file in files]
    bare = [all(label in (None, "", -1) for label in found) for *_, found in labels]
    for column in dict.fromkeys(column for _, file in files for column in file.ignored):
        findings.leave("columns that are neither image nor label", column)
    named: dict[str, list[Entry]] = {}
    for (part, file, found), without in zip(labels, bare, strict=True):
        findings.decide(
            "columns", f"image is {file.columns.picture!r}, label is {file.columns.label or 'none'!r}"
        )
        if without and all(bare):
            entries: Iterable[Entry] = (
                TableEntry(f"{file.name}/{r:08d}", "", file, r) for r in range(len(found))
            )
            named.setdefault(part, []).extend(entries)
        elif without:
            findings.leave("images without labels", file.name, len(found))
        else:
            named.setdefault(part, []).extend(_entries(file, found))
    if all(bare):
        findings.decide("classes", "no column of labels, or no label in it: images without labels")
    return named, not all(bare)


def _entries(file: RowFile, labels: list[object]) -> Iterator[Entry]:
    for row, label in enumerate(labels):
        name = f"{file.name}/{row:08d}"
        if type(label) not in (int, str) or str(label).startswith("-") or label == "":
            yield BrokenEntry(name, "", f"label {str(label)[:40]}")
        else:
            yield TableEntry(name, class_name(str(label)), file, row)


def _classes(
    place: str, named: dict[str, list[Entry]], files: list[tuple[str, RowFile]]
) -> tuple[list[str], bool]:
    """See `classes_of`. FileError for files that mean different classes by one number."""
    lists = dict.fromkeys(file.columns.class_names for _, file in files if file.columns.class_names)
    if len(lists) > 1:
        raise FileError(f"{place}: its files have different lists of classes", "open them one by one")
    return classes_of(place, known_labels(named), next(iter(lists), ()))


def _on_disk(root: Path, spec: DataSpec, findings: Findings) -> Iterator[tuple[str, RowFile]]:
    """Files, with the name that tells their part."""
    if (root / "dataset_dict.json").is_file():
        for split in _texts(root / "dataset_dict.json", "splits"):
            for file in _saved(root / _plain(root, split), f"{split}/", spec):
                yield split, file
    elif (root / "state.json").is_file():
        for file in _saved(root, "", spec):
            yield "", file
    elif not root.exists():
        raise FileError(f"{root}: no such file or folder", "a data set on the hub is called OWNER/NAME")
    else:
        for path in [root] if root.is_file() else files_in(root, findings):
            if path.suffix.lower() == ".parquet" and path.is_file():
                inside = readable_name(path.relative_to(root)) if path != root else path.name
                yield inside, ParquetFile(str(path), inside, said=spec.columns)


def _saved(folder: Path, prefix: str, spec: DataSpec) -> Iterator[RowFile]:
    """The files of one split that `save_to_disk` wrote."""
    state = _object(folder / "state.json")
    if state.get("_indices_files"):
        raise FileError(
            f"{folder}: rows chosen by a list of indices", "save it anew: flatten_indices() first"
        )
    for about in state.get("_data_files") or []:
        name = _plain(folder, about.get("filename") if isinstance(about, dict) else None)
        yield ArrowFile(folder / name, f"{prefix}{name}", spec.columns)


def _plain(folder: Path, name: object) -> str:
    """A name of something in the folder itself; FileError for anything else."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise FileError(f"{folder}: names a file that is not in it: {str(name)[:80]!r}")
    return name


def _texts(path: Path, field: str) -> list[str]:
    found = _object(path).get(field)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise FileError(f"{path}: {field}: expected a list of names")
    return found


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path}: cannot be read: {(str(error).splitlines() or [''])[0][:200]}") from error
    if not isinstance(found, dict):
        raise FileError(f"{path}: expected an object with fields")
    return found


def _on_hub(place: str, spec: DataSpec) -> Iterator[tuple[str, RowFile]]:
    hub = _hub()
    root = f"datasets/{place}"
    try:
        paths = sorted(str(path) for path in hub.glob(f"{root}/**/*.parquet"))
    except Exception as error:  # whatever the network or the hub makes its client raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UnavailableError(f"hf:{place}: cannot be fetched: {reason}") from error
    if not paths:
        raise FileError(
            f"hf:{place}: no such folder, and no .parquet files of that name on the hub",
            f"the hub's own conversion, if there is one: hf:{place}@refs/convert/parquet",
        )
    for path in paths:
        inside = path.removeprefix(f"{root}/")
        yield inside, ParquetFile(path, inside, hub, spec.columns)


def _hub() -> Any:
    try:
        from huggingface_hub import HfFileSystem
    except ImportError as error:
        raise UnavailableError("hf: on the hub needs the data extra", pip_install("data")) from error
    return HfFileSystem()
