"""An Optuna study in a journal file: opened, repaired if torn, refused if made for something else."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adapcli.errors import AdapError, FileError

if TYPE_CHECKING:
    import optuna

Direction = Literal["maximize", "minimize"]
STUDY_NAME = "adap"
IDENTITY = "made_for"
DIRECTIONS: "tuple[Direction, ...]" = ("maximize", "minimize")  # the score, the cost as a fraction of full


def open_study(path: Path | None, identity: dict[str, Any]) -> "optuna.Study":
    """The study kept at `path`, new if there is none; in memory without a path.

    Raises FileError if the file is not a journal, or its study was made for something else; AdapError if it
    cannot be written.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if path is None:
        return _new_study(optuna.storages.InMemoryStorage(), identity)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(path)))
        names = [study.study_name for study in storage.get_all_studies()]
        if not names:
            return _new_study(storage, identity)
    except Exception as error:  # replaying a damaged journal raises whatever its records lead to
        _raise_unusable(path, error)
    if len(names) > 1 and STUDY_NAME not in names:
        raise FileError(
            f"{path}: holds {len(names)} studies, none made by adap", "give another file to --study"
        )
    name = STUDY_NAME if STUDY_NAME in names else names[0]
    study = optuna.load_study(study_name=name, storage=storage)
    _refuse_other(study, identity, path)
    return study


def repair_journal(path: Path) -> str:
    """Cut a torn last line off the journal at `path`; returns what was done, in words, or ''.

    Raises FileError, naming the line, if the file is no journal or is damaged before its end.
    """
    if not path.exists():
        return ""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: not a study: {error.strerror}", "--study takes a file") from error
    whole, newline, torn = content.rpartition(b"\n")
    for number, line in enumerate(whole.split(b"\n") if newline else [], 1):
        if not _is_record(line):
            raise FileError(f"{path}: line {number} is not a record of an Optuna journal")
    if not torn:
        return ""
    if not newline and not torn.startswith(b"{"):
        raise FileError(f"{path}: not an Optuna journal")
    _truncate(path, len(whole) + len(newline))
    return f"{path}: the last line was torn; it was cut off and the study goes on from the one before"


def _truncate(path: Path, size: int) -> None:
    from optuna.storages.journal import JournalFileSymlinkLock

    lock = JournalFileSymlinkLock(str(path))  # another process may be writing to the same study
    lock.acquire()
    try:
        os.truncate(path, size)
    except OSError as error:
        raise AdapError(f"cannot repair {path}: {error.strerror}") from error
    finally:
        lock.release()


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and isinstance(record.get("op_code"), int)


def _new_study(storage: Any, identity: dict[str, Any]) -> "optuna.Study":
    import optuna

    study = optuna.create_study(storage=storage, study_name=STUDY_NAME, directions=list(DIRECTIONS))
    study.set_user_attr(IDENTITY, identity)
    return study


def _refuse_other(study: "optuna.Study", identity: dict[str, Any], path: Path) -> None:
    """FileError unless the study maximises and minimises what this search does, over the same table."""
    hint = "give another file to --study"
    directions = tuple(direction.name.lower() for direction in study.directions)
    if directions != DIRECTIONS:
        found, wanted = ", ".join(directions), ", ".join(DIRECTIONS)
        raise FileError(f"{path}: study was made for other directions: {found}, not {wanted}", hint)
    made_for = study.user_attrs.get(IDENTITY)
    if made_for is None and not study.trials:
        study.set_user_attr(IDENTITY, identity)  # stopped right after it was created
        return
    if not isinstance(made_for, dict):
        names = sorted({name for trial in study.trials for name in trial.params})
        raise FileError(f"{path}: study was made for another space: {', '.join(names)}", hint)
    differing = [name for name in identity if made_for.get(name) != identity[name]]
    if differing:
        told = "; ".join(f"{_told(name, made_for)}, not {_told(name, identity)}" for name in differing)
        raise FileError(f"{path}: study was made for {told}", hint)


def _told(name: str, identity: Mapping[str, Any]) -> str:
    value = identity.get(name)
    return f"no {name}" if value is None else f"{name} {value}"


def _raise_unusable(path: Path, error: Exception) -> None:
    if isinstance(error, OSError):
        raise AdapError(f"cannot use {path}: {error.strerror or error}") from error
    raise FileError(f"{path}: not a usable study: {type(error).__name__}: {error}") from error
