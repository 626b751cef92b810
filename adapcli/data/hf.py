"""`hf:PATH` or `hf:OWNER/NAME`: data sets as Hugging Face's libraries keep them.

On disk: a folder made by `save_to_disk` (one split, or several), a folder of Parquet files, or one of these.
On the hub: the Parquet files of a data set, `OWNER/NAME` or `OWNER/NAME@REVISION`, of which the groups of
rows that are needed are fetched when they are needed, and no more. Only bytes of pictures and classes are
read: no script of a data set is ever run, no path or address in it followed. Needs the extra `data`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapcli.data.entries import BrokenEntry, Catalogue, Entry, classes_of, known_labels
from adapcli.data.listing import files_in, readable_name
from adapcli.data.parts import part_of, shared_out
from adapcli.data.tables import ArrowFile, ParquetFile, RowFile, TableEntry
from adapcli.errors import FileError, UnavailableError, pip_install

ON_HUB = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")


def open_hf(place: str, by: str) -> Catalogue:
    """What a data set holds. UnavailableError without the extra, or without the hub."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UnavailableError("hf: needs the data extra", pip_install("data")) from error
    root = Path(place).expanduser()
    files = list(_on_disk(root) if root.exists() or not ON_HUB.fullmatch(place) else _on_hub(place))
    if not files:
        raise FileError(f"{place}: no data set in it", "expected what save_to_disk made, or .parquet files")
    named: dict[str, list[Entry]] = {}
    for part, file in files:
        named.setdefault(part, []).extend(_entries(file))
    names = next((file.columns.class_names for _, file in files if file.columns.class_names), ())
    labels, numbered = classes_of(place, known_labels(named), names)
    return Catalogue(
        "hf", str(root) if root.exists() else place, shared_out(named, by, place), labels, numbered
    )


def _entries(file: RowFile) -> Iterator[Entry]:
    for row, label in enumerate(file.labels()):
        name = f"{file.name}/{row:08d}"
        if type(label) not in (int, str) or str(label).startswith("-") or label == "":
            yield BrokenEntry(name, "", f"label {str(label)[:40]}")
        else:
            yield TableEntry(name, str(label), file, row)


def _on_disk(root: Path) -> Iterator[tuple[str, RowFile]]:
    """Files by the part they belong to."""
    if (root / "dataset_dict.json").is_file():
        for split in _texts(root / "dataset_dict.json", "splits"):
            yield from _saved(root / _plain(root, split), part_of(split), f"{split}/")
    elif (root / "state.json").is_file():
        yield from _saved(root, "", "")
    elif not root.exists():
        raise FileError(f"{root}: no such file or folder", "a data set on the hub is called OWNER/NAME")
    else:
        for path in [root] if root.is_file() else files_in(root):
            if path.suffix.lower() == ".parquet" and path.is_file():
                inside = readable_name(path.relative_to(root)) if path != root else path.name
                yield part_of(inside), ParquetFile(str(path), inside)


def _saved(folder: Path, part: str, prefix: str) -> Iterator[tuple[str, RowFile]]:
    """The files of one split that `save_to_disk` wrote."""
    state = _object(folder / "state.json")
    if state.get("_indices_files"):
        raise FileError(
            f"{folder}: rows chosen by a list of indices", "save it anew: flatten_indices() first"
        )
    for about in state.get("_data_files") or []:
        name = _plain(folder, about.get("filename") if isinstance(about, dict) else None)
        yield part, ArrowFile(folder / name, f"{prefix}{name}")


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


def _on_hub(place: str) -> Iterator[tuple[str, RowFile]]:
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
        yield part_of(inside), ParquetFile(path, inside, hub)


def _hub() -> Any:
    try:
        from huggingface_hub import HfFileSystem
    except ImportError as error:
        raise UnavailableError("hf: on the hub needs the data extra", pip_install("data")) from error
    return HfFileSystem()
