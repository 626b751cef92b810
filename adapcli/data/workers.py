"""Reading ahead in other processes: the same results in the same order, however many there are.

torch's DataLoader starts the processes, each with one thread, by the platform's usual way or another.
"""

import itertools
import multiprocessing.util
import os
import pickle
import signal
import tempfile
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from adapcli.errors import AdapError

T = TypeVar("T")
K = TypeVar("K")

MOST_WORKERS = 256
AHEAD = 2
"""Results that every process has ready, at most."""
LONGEST_TMPDIR = 107 - len("/pymp-xxxxxxxx/listener-xxxxxxxx")
"""Bytes of the path of a folder in which multiprocessing can open its sockets."""
OPEN_FILES = 8
"""Held open per worker process at most: pipes, and tensors that are ready but not taken yet."""
RESOURCES_HINT = "fewer --workers need less; `ulimit -n` shows how many files a process may hold open"


def ahead(
    load: Callable[[K], T], keys: Iterable[K], workers: int, *, context: str | None = None
) -> Generator[T, None, None]:
    """`load` of every key, in order, by `workers` processes that read ahead; by this one alone if 0.

    What `load` gives must depend on the key alone. An AdapError that it raises is raised here, when its turn
    comes. Closing the generator ends the processes. context: how they are started, such as "spawn", for which
    `load` must be picklable. AdapError if one of them is killed.
    """
    if not workers:
        yield from map(load, keys)
        return
    found = _loader(load, keys, workers, context)
    try:
        while (packed := _next(found)) is not None:
            result = _unpacked(packed)
            del packed
            if isinstance(result, _Failed):
                raise result.error
            yield result
            del result  # shared memory, and the file descriptor that holds it, go with the last reference
    finally:
        del found


class ReadAhead(Generic[T]):
    """`load` of numbers that are mostly asked for one after another; any other starts anew from there."""

    def __init__(self, load: Callable[[int], T], workers: int, *, context: str | None = None) -> None:
        self.load, self.workers, self.context = load, workers, context
        self._results: Generator[T, None, None] | None = None
        self._next = -1

    def get(self, number: int) -> T:
        """`load(number)`; AdapError as `ahead`."""
        if self._results is None or number != self._next:
            self.close()
            self._results = ahead(self.load, itertools.count(number), self.workers, context=self.context)
        self._next = number + 1
        return next(self._results)

    def close(self) -> None:
        """End the processes."""
        if self._results is not None:
            self._results.close()
        self._results = None


@dataclass(frozen=True)
class _Failed:
    """An exception of another process, for this one to raise."""

    error: Exception


class _Loads(Dataset[Any]):
    """Loads and serialises in the worker's main thread.

    A DataLoader leaves pickling to a thread of its queue, and an exception there is printed and dropped while
    the parent waits for the result for ever. Here it becomes the result.
    """

    def __init__(self, load: Callable[[Any], Any]) -> None:
        self.load = load

    def __getitem__(self, key: Any) -> bytes:
        try:
            result = self.load(key)
        except Exception as error:
            error.add_note(traceback.format_exc())  # where it happened is lost on the way
            result = _Failed(error)
        try:
            return bytes(ForkingPickler.dumps(result))
        except Exception as error:
            return bytes(ForkingPickler.dumps(_Failed(_not_passed_on(error))))


def _unpacked(packed: bytes) -> Any:
    try:
        return pickle.loads(packed)  # from a child of this process
    except (OSError, RuntimeError, EOFError) as error:
        raise _not_passed_on(error) from error


def _not_passed_on(error: Exception) -> AdapError:
    """torch shares memory by file descriptor: too few of those, or a full /dev/shm, ends here."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    return AdapError(f"a worker process could not pass on the data it read: {reason}", RESOURCES_HINT)


class _Keys:
    """An iterable without a length: torch would ask for it."""

    def __init__(self, keys: Iterable[Any]) -> None:
        self.keys = keys

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)


def _loader(
    load: Callable[[Any], Any], keys: Iterable[Any], workers: int, context: str | None
) -> Iterator[bytes]:
    _shorten_socket_paths()
    _check_open_files(workers)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This DataLoader will create")  # more than processors
            loader = iter(
                DataLoader(
                    _Loads(load),
                    batch_size=None,
                    sampler=_Keys(keys),
                    num_workers=workers,
                    collate_fn=_as_it_is,
                    worker_init_fn=_leave_interrupts,
                    prefetch_factor=AHEAD,
                    multiprocessing_context=context,
                    generator=torch.Generator(),  # else the seed of its processes comes from the global one
                )
            )
    except OSError as error:
        reason = error.strerror or error
        raise AdapError(f"cannot start {workers} worker processes: {reason}", RESOURCES_HINT) from error
    _report_deaths()
    return loader


def _next(results: Iterator[bytes]) -> bytes | None:
    """The next result, None at the end; AdapError if a worker process is gone."""
    try:
        return next(results, None)
    except RuntimeError as error:
        raise _death(error) from error
    except OSError as error:
        raise _not_passed_on(error) from error


def _death(error: RuntimeError) -> Exception:
    if "DataLoader worker" not in str(error):
        return error
    reason = str(error).splitlines()[0][:160]
    return AdapError(
        f"a process that reads data has ended: {reason}",
        "too little memory, or shared memory (/dev/shm)? fewer --workers need less",
    )


def _report_deaths() -> None:
    """torch raises its RuntimeError from a signal handler, wherever this process is: make it one line."""
    torchs = signal.getsignal(signal.SIGCHLD)
    if isinstance(torchs, _Reporting) or not callable(torchs):
        return
    with suppress(ValueError):  # not the main thread: torch has set no handler either
        signal.signal(signal.SIGCHLD, _Reporting(torchs))


@dataclass(frozen=True)
class _Reporting:
    handler: Callable[[int, FrameType | None], Any]

    def __call__(self, number: int, frame: FrameType | None) -> None:
        try:
            self.handler(number, frame)
        except RuntimeError as error:
            raise _death(error) from error


def _shorten_socket_paths() -> None:
    """Let multiprocessing keep its sockets where their paths fit into the 107 bytes that an address has.

    Its folder lies in TMPDIR, is made once per process, known to its children, and removed at exit.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= LONGEST_TMPDIR:
        return
    before = tempfile.tempdir
    try:
        for place in ("/tmp", "/var/tmp", "/dev/shm"):
            tempfile.tempdir = place
            with suppress(OSError):
                if len(os.fsencode(multiprocessing.util.get_temp_dir())) <= LONGEST_TMPDIR + 14:
                    return
    finally:
        tempfile.tempdir = before
    raise AdapError(
        f"TMPDIR is too long for the sockets of worker processes, and /tmp is not writable: {before}",
        f"set TMPDIR to a path of at most {LONGEST_TMPDIR} bytes, or leave out --workers",
    )


def _check_open_files(workers: int) -> None:
    """AdapError if the system would not let this process open what the workers need.

    Known before any is started, because torch does not clean up after a start that fails midway.
    """
    needed, opened = OPEN_FILES * (workers + 2), list[int]()
    try:
        for _ in range(needed):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        message = f"--workers {workers} needs {needed} open files: {error.strerror}"
        raise AdapError(message, RESOURCES_HINT) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _as_it_is(result: Any) -> Any:
    return result


def _leave_interrupts(number: int) -> None:
    """Ctrl-C reaches every process of a terminal; what to do about it is up to the first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
