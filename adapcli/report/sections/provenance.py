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
        ("checkpoint", flat(known.get("checkpoint"))),
        ("checkpoint fingerprint", flat(fingerprints.get("checkpoint"))),
        ("task", flat(meta.get("task"))),
        ("data", flat(meta.get("data", known.get("data")))),
        ("data fingerprints", flat(fingerprints.get("data"))),
        ("samples", samples_text(findings)),
        ("preprocessing", flat(meta.get("preprocessing"))),
        ("device", flat(meta.get("device"))),
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


def _versions(findings: Findings) -> Any:
    commands = findings.provenance.get("commands", [])
    return (commands[-1].get("versions") if commands else None) or findings.table.meta.get("versions")


def samples_text(findings: Findings) -> str:
    """Samples per split."""
    counts = findings.table.samples["split"].value_counts()
    return ", ".join(f"{split} {labels.number(int(counts.get(split, 0)))}" for split in SPLITS)


def flat(value: Any) -> str:
    """JSON as a line of text; empty for nothing."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_nested(item)}" for name, item in value.items() if item is not None)
    if isinstance(value, list):
        return ", ".join(flat(item) for item in value)
    return str(value)


def _nested(value: Any) -> str:
    return f"({flat(value)})" if isinstance(value, Mapping | list) else flat(value)


def _commands(commands: list[dict[str, Any]]) -> Grid:
    rows = [
        [
            str(c.get("command", "")),
            str(c.get("started", "")).replace("T", " ").replace("+00:00", " UTC"),
            duration(float(c.get("seconds", 0))),
        ]
        for c in commands
    ]
    columns = ["command", "started", "took"]
    return Grid(
        "commands",
        pd.DataFrame(rows, columns=columns),
        columns,
        rows,
        "Commands that made this run",
        numeric=2,
    )
