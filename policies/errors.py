"""The root error of the whole project: one line for a person, one hint, one exit code."""


class AdapError(Exception):
    """Something a user can act on. `message` says what is wrong, `hint` what to do next."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AdapError):
    """An argument lies outside what is allowed."""

    exit_code = 2


class FileError(AdapError):
    """A file is missing, damaged, of the wrong kind, or not to be trusted."""

    exit_code = 3


class BusyError(AdapError):
    """Another process is writing the same result."""

    exit_code = 6


class UnavailableError(AdapError):
    """An optional package, a device or a network place is not there."""

    exit_code = 4


class InfeasibleError(AdapError):
    """The request is well formed, but nothing satisfies it."""

    exit_code = 5
