"""`adap doctor`."""

from typing import Any

from adapcli.commands.options import Device, Json, Quiet
from adapcli.commands.units import bytes_text
from adapcli.console import Console


def doctor(device: Device = "auto", json: Json = False, quiet: Quiet = False) -> None:
    """Show versions, devices, threads and extras, and what is missing."""
    from adapcli import __version__
    from adapcli.errors import UnavailableError
    from adapcli.limits import memory_bytes
    from adapcli.measure import device as machine

    console = Console(json=json, quiet=quiet)
    versions = machine.versions()
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        console.table(["what", "found"], [["adap", __version__], *versions.items()])
        raise UnavailableError(f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    facts = {
        "adap": __version__,
        "versions": versions,
        "device": str(machine.resolve(device)),
        "devices": machine.devices(),
        "memory_bytes": memory_bytes(),
        "extras": machine.missing_extras(),
        "checkpoint": _packaged(),
    }
    _show(console, facts)
    console.result(facts)


def _packaged() -> dict[str, Any]:
    from adapcli.model.checkpoint import packaged

    path = packaged()
    return {"path": path, "bytes": path.stat().st_size if path.exists() else None}


def _show(console: Console, facts: dict[str, Any]) -> None:
    from adapcli.errors import pip_install

    rows = [["adap", facts["adap"]], *facts["versions"].items()]
    rows.extend([found["device"], _described(found)] for found in facts["devices"])
    rows.append(["memory", bytes_text(facts["memory_bytes"])])
    for extra, missing in facts["extras"].items():
        rows.append([f"[{extra}]", f"missing: {pip_install(extra)}" if missing else "installed"])
    checkpoint = facts["checkpoint"]
    size = "missing" if checkpoint["bytes"] is None else bytes_text(checkpoint["bytes"])
    rows.append(["checkpoint", f"{checkpoint['path']}, {size}"])
    console.table(["what", "found"], rows)
    console.say(f"commands will run on {facts['device']}")


def _described(device: dict[str, Any]) -> str:
    if device["device"] == "cpu":
        return f"{device['name']}, {device['cpus']} processors, torch uses {device['threads']}"
    return f"{device['name']}, {bytes_text(device['memory_bytes'])}"
