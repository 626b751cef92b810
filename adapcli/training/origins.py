"""What a run was made from besides its recipe: digests of the files that the recipe names.

A run resumed on other pictures, another start or another teacher would be neither the old run nor a new one.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from adapcli.model.checkpoint import packaged
from adapcli.training.schema import Recipe
from adapcli.training.source import Source

Origins = dict[str, str]


def origins(recipe: Recipe, source: Source) -> Origins:
    """A digest by name (data, start, teacher) of each that lies on disk; what is not there is left out.

    Pictures count by name and size, other files by their content.
    """
    found = {"data": source.fingerprint}
    named = {"start": recipe.start, "teacher": _teacher_file(recipe)}
    for part, name in named.items():
        path = packaged() if name == "packaged" else Path(name or "").expanduser()
        if name and path.exists():
            found[part] = _digest(path)
    return found


def changed(before: Origins, now: Origins) -> list[str]:
    """The names of what is no longer what it was."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def _teacher_file(recipe: Recipe) -> str | None:
    kind, _, name = recipe.teacher.source.partition(":") if recipe.teacher else ("", "", "")
    return name if kind in ("ckpt", "hf") else None


def _digest(path: Path) -> str:
    whole = hashlib.sha256()
    for file in _files(path):
        with file.open("rb") as content:
            whole.update(file.name.encode("utf-8", "backslashreplace"))
            whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or those of a checkpoint's folder."""
    return iter([path]) if path.is_file() else (file for file in sorted(path.iterdir()) if file.is_file())
