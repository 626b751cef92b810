"""Where the numbers come from."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from adapcli.report import labels
from adapcli.report.document import Block, Facts, Grid, Section, Text
from adapcli.report.findings import Findings
from adapcli.report.units import duration
from policies.table import SPLITS


def section(findings: Findings) -> Section:
    """Checkpoint, data, device, seeds, conventions, and the commands that made the run."""
    blocks: list[Block] = [Facts(_facts(findings))]
    commands = findings.provenance.get("commands", [])
    if commands:
        blocks.append(_commands(commands))
    else:
        blocks.append(Text("The run folder has no run.json: which commands made it is not known."))
    return Section("provenance", "Provenance", blocks)


def _facts(findings: Findings) -> list[tuple[str, str]]:
    meta, known = findings.table.meta, findings.provenance
    fingerprints = meta.get("fingerprints", {})
    candidates = [
        ("checkpoint", _checkpoint(known.get("checkpoint"), fingerprints.get("checkpoint"))),
        ("recalibration", flat(fingerprints.get("recalibration"))),
        ("task", flat(meta.get("task"))),
        ("data", _data(meta.get("data", known.get("data")), meta.get("seed"))),
        ("samples", samples_text(findings)),
        ("data fingerprints", flat(fingerprints.get("data"))),
        ("preprocessing", flat(meta.get("preprocessing"))),
        ("device", _device(meta.get("device"))),
        ("dtype", flat(fingerprints.get("dtype", meta.get("dtype")))),
        ("batch", flat(meta.get("batch"))),
        ("seed", flat(meta.get("seed"))),
        ("conventions", flat(meta.get("conventions"))),
        ("signals", ", ".join(findings.table.signal_names)),
        (
            "features",
            f"{len(findings.table.feature_names)} per sample" if findings.table.feature_names else "",
        ),
        ("versions", flat(_versions(findings))),
        ("table schema", flat(meta.get("schema_version"))),
    ]
    return [(name, value) for name, value in candidates if value]


def _checkpoint(recorded: Any, fingerprint: Any) -> str:
    """Path and fingerprint: the table's, and the path only if it is known to be of the same checkpoint."""
    if not isinstance(recorded, Mapping):
        recorded = {"path": recorded}
    theirs = recorded.get("fingerprint")
    same = fingerprint is None or theirs is None or theirs == fingerprint
    path = flat(recorded.get("path")) if same else ""
    digest = flat(theirs if fingerprint is None else fingerprint)
    return ", ".join(text for text in (path, digest and f"fingerprint {digest}") if text)


def _data(data: Any, seed: Any) -> str:
    """Its name first; without what other lines tell: the sizes, and a seed that is the run's."""
    if not isinstance(data, Mapping):
        return flat(data)
    told = ("name", "sizes", "skipped", *(["seed"] if data.get("seed") == seed else []))
    rest = {name: value for name, value in data.items() if name not in told}
    skipped = data.get("skipped") or 0
    lost = labels.plural(skipped, "file") + " skipped" if isinstance(skipped, int) and skipped else ""
    return ", ".join(text for text in (flat(data.get("name")), flat(rest), lost) if text)


def _device(device: Any) -> str:
    """Its name, what torch calls it, and the rest."""
    if not (isinstance(device, Mapping) and device.get("name")):
        return flat(device)
    rest = {name: value for name, value in device.items() if name not in ("name", "device")}
    kind = f" ({flat(device['device'])})" if device.get("device") else ""
    return ", ".join(text for text in (flat(device["name"]) + kind, flat(rest)) if text)


def _versions(findings: Findings) -> Any:
    commands = findings.provenance.get("commands", [])
    return (commands[-1].get("versions") if commands else None) or findings.table.meta.get("versions")


def samples_text(findings: Findings) -> str:
    """Samples per split."""
    counts = findings.table.samples["split"].value_counts()
    return ", ".join(f"{split} {labels.number(int(counts.get(split, 0)))}" for split in SPLITS)


def flat(value: Any) -> str:
    """JSON as a line of text, names in words; what is empty is left out."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        items = ((str(name).replace("_", " "), _nested(item)) for name, item in value.items())
        return ", ".join(f"{name} {text}" for name, text in items if text)
    if isinstance(value, list):
        return ", ".join(flat(item) for item in value)
    return str(value)


def _nested(value: Any) -> str:
    """In brackets if it holds several things."""
    text = flat(value)
    return f"({text})" if text and isinstance(value, Mapping | list) and len(value) > 1 else text


def _commands(commands: list[dict[str, Any]]) -> Grid:
    rows = [
        [
            str(c.get("command", "")),
            str(c.get("started", "")).replace("T", " ").replace("+00:00", " UTC"),
            duration(float(c.get("seconds", 0))),
        ]
        for c in commands
    ]
    records = [[row[0], c.get("started"), c.get("seconds")] for row, c in zip(rows, commands, strict=True)]
    return Grid(
        "commands",
        pd.DataFrame(records, columns=["command", "started", "seconds"]),
        ["command", "started", "took"],
        rows,
        "Commands that made this run",
        numeric=2,
    )
