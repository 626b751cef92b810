"""A command among several processes: it meets the others, and what ends it is told once."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from adapcli.distributed.group import Group, meet
from adapcli.distributed.launch import ElsewhereError, Launch, LostError
from adapcli.errors import AdapError


@contextmanager
def joined() -> Iterator[Group]:
    """The group of this process while the block runs; alone without torchrun.

    An error that several processes meet leaves one of them as it is and the others as SystemExit with its
    exit code; one of a process that is not the first says which it was. A signal that comes because another
    process ended becomes an AdapError that says so: torchrun stops those that are left.
    """
    group = meet(Launch.here())
    if group.size == 1:
        yield group
        return
    try:
        yield group
    except AdapError as error:
        raise as_told(group, error) from error
    except (SystemExit, KeyboardInterrupt) as stop:
        if group.ended(patience=1.0):
            raise as_told(group, _lost_before(stop) or group.lost()) from stop
        raise
    except BaseException as error:  # whatever it is: the others must not wait for this process
        group.fail(f"{type(error).__name__}: {error}")
        raise
    dist.destroy_process_group()


def _lost_before(stop: BaseException) -> LostError | None:
    """What was on its way out when the signal came: it knows what is saved."""
    error: BaseException | None = stop
    while error is not None and not isinstance(error, LostError):
        error = error.__context__
    return error


def as_told(group: Group, error: AdapError) -> BaseException:
    """What a process ends with, so that an error is told once, and by whom it concerns."""
    lost = isinstance(error, LostError)
    if not lost:
        group.fail(error.message)
    repeats = isinstance(error, LostError) and error.explained and not group.first
    if repeats or group.told(error.message):
        return SystemExit(error.exit_code)
    if group.first or lost:
        return error
    named = ElsewhereError(f"process {group.rank} of {group.size}: {error.message}", error.hint)
    named.exit_code = error.exit_code
    return named
