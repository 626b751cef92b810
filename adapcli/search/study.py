"""An Optuna study in a journal file: opened, repaired if torn, refused if made for something else.

Several processes may search on one file. All that decides or repairs happens under the file's lock.
"""

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adapcli.errors import AdapError, FileError

if TYPE_CHECKING:
    import optuna

Direction = Literal["maximize", "minimize"]
STUDY_NAME = "adap"
IDENTITY = "made_for"
PATIENCE_S = 30.0
"""How long one lock of a study's file is waited for; a record is written in milliseconds."""
DIRECTIONS: "tuple[Direction, ...]" = ("maximize", "minimize")  # the score, the cost as a fraction of full


def open_study(
    path: Path | None, identity: dict[str, Any], warn: Callable[[str], object] = lambda text: None
) -> "optuna.Study":
    """The study saved at `path`, created if there is none; in memory without a path.

    Any number of processes may open the same file at once: one creates the study. A torn last line, left by a
    process that was killed, is cut off; warn(what was repaired). Raises FileError if the file is not a
    journal, or its study was made for something else; AdapError if it cannot be written or stays locked.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if path is None:
        return _create(optuna.storages.InMemoryStorage(), identity)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _raise_unusable(path, error)
    lock: Any = JournalLock(path.absolute())
    with lock:
        torn = _repair(path)
        lock.validated = True
        if torn:
            warn(torn)
        try:
            storage = JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
            names = [study.study_name for study in storage.get_all_studies()]
            if not names:
                return _create(storage, identity)
        except AdapError:
            raise
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


class JournalLock:
    """Exclusive access to a journal among processes, also of several machines; a context, re-entrant.

    The lock is a symbolic link FILE.lock, as Optuna's own `JournalFileSymlinkLock` makes it, so that the two
    exclude each other. Ours points to the name of its owner: a lock whose owner was killed is removed at
    once. One that nobody releases for `PATIENCE_S` seconds ends in an AdapError that names the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, Path(f"{path}.lock")
        self.validated = False
        """Whether the file is known to be a journal: only then may its torn end be cut off."""
        self._depth = 0
        self._owner = f"{_machine()} {os.getpid()} {uuid.uuid4()}"

    def __enter__(self) -> "JournalLock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> bool:
        """Wait for the lock. AdapError if it stays taken, or cannot be made."""
        if self._depth == 0:
            self._take()
            if self.validated:
                _cut_torn_end(self.path)  # else the next record would continue the torn line
        self._depth += 1
        return True

    def release(self) -> None:
        """Give it up."""
        self._depth -= 1
        if self._depth == 0 and self._holder() == self._owner:
            self.file.unlink(missing_ok=True)

    def _take(self) -> None:
        seen, since, pause = "", time.monotonic(), 0.001
        while True:
            try:
                self.file.symlink_to(self._owner)
                return
            except FileExistsError:
                holder = self._identity()
            except OSError as error:
                raise AdapError(f"cannot lock {self.path}: {error.strerror}") from error
            if holder != seen:
                seen, since, pause = holder, time.monotonic(), 0.001
            elif self._is_left():
                continue
            elif time.monotonic() - since > PATIENCE_S:
                raise AdapError(
                    f"{self.file}: another process has locked the study for {PATIENCE_S:.0f} s",
                    "delete this file if no other search uses the study",
                )
            time.sleep(pause)
            pause = min(2 * pause, 0.1)

    def _holder(self) -> str:
        try:
            return str(self.file.readlink())
        except OSError:  # just released, or no link
            return ""

    def _identity(self) -> str:
        """Tells one lock from the next."""
        try:
            found = self.file.lstat()
            return f"{self._holder()} {found.st_ino} {found.st_mtime_ns}"
        except OSError:
            return ""

    def _is_left(self) -> bool:
        """Whether the holder was a process of this machine that has ended; the lock is then removed."""
        holder = self._holder()
        machine, _, rest = holder.partition(" ")
        process = rest.partition(" ")[0]
        if machine != _machine() or not process.isdecimal() or _runs(int(process)):
            return False
        with self.path.open("ab") as journal:
            fcntl.flock(journal, fcntl.LOCK_EX)  # one process removes it: not the next one's lock instead
            if self._holder() == holder:
                self.file.unlink(missing_ok=True)
        return True


def _machine() -> str:
    """Names the machine, and on Linux the container: numbers of processes mean something inside it only."""
    try:
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    except OSError:
        return socket.gethostname()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _repair(path: Path) -> str:
    """Cut a torn last line off the journal at `path`, which is locked; returns what was done, or ''.

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
    _cut_torn_end(path)
    return f"{path}: the last line was torn; it was cut off and the study goes on from the one before"


def _cut_torn_end(path: Path) -> None:
    """Remove what follows the last newline. The file must be locked: another process may be writing it."""
    try:
        with path.open("r+b") as journal:
            end = journal.seek(0, os.SEEK_END)
            if not end:
                return
            journal.seek(end - 1)
            if journal.read(1) != b"\n":
                journal.seek(0)
                journal.truncate(journal.read().rfind(b"\n") + 1)
    except FileNotFoundError:  # not created yet
        return
    except OSError as error:
        raise AdapError(f"cannot repair {path}: {error.strerror}") from error


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and isinstance(record.get("op_code"), int)


def _create(storage: Any, identity: dict[str, Any]) -> "optuna.Study":
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
