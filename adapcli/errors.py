"""Errors as users meet them; defined once, in the leaves of `policies`."""

from policies.errors import AdapError, FileError, InfeasibleError, UnavailableError, UsageError

__all__ = [
    "INTERRUPTED",
    "TERMINATED",
    "AdapError",
    "FileError",
    "InfeasibleError",
    "UnavailableError",
    "UsageError",
    "pip_install",
]

DISTRIBUTION = "adapcli"
"""The project's name for pip. `adap` and `policies` are other people's packages there."""


INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and SIGTERM, as a shell would give them."""


def pip_install(extra: str) -> str:
    """The command that brings the packages of an optional extra, as a hint shows it."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
