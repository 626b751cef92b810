"""From a run folder to a report folder: index.html, report.md, figures/ and tables/, whole or not at all."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from adapcli import __version__
from adapcli.errors import UsageError
from adapcli.report import labels, markdown, page, style
from adapcli.report.document import Document, Drawing, Section
from adapcli.report.findings import Findings, gather
from adapcli.report.sections import (
    axes,
    calibration,
    choices,
    comparison,
    cost,
    dataset,
    diagnosis,
    field,
    policies,
    provenance,
    search,
    tradeoff,
    training,
    verdict,
)
from adapcli.run import Run
from policies.files import atomic_folder, write_bytes, write_csv, write_text
from policies.shown import short_repr

Progress = Callable[[int, int], object]

INDEX, TEXT = "index.html", "report.md"


@dataclass(frozen=True)
class Report:
    """What was written: the folder, and the document it was written from."""

    __repr__ = short_repr

    folder: Path
    document: Document
    findings: Findings

    @property
    def index(self) -> Path:
        """The page."""
        return self.folder / INDEX


def build(
    run: Run,
    *,
    compare: Run | None = None,
    made: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Draw everything that the run folder holds into its report/, in place of an earlier report.

    made: when, as text (default: now, UTC); apart from it the same run gives the same bytes.
    Raises FileError, naming `adap sweep`, if there is no table, and if `compare` is of another task or data;
    UsageError if `compare` is the run itself.
    """
    if compare is not None and compare.folder.resolve() == run.folder.resolve():
        raise UsageError(f"--compare {compare.folder}: is the run itself", "give another run's folder")
    findings = gather(run)
    other = None if compare is None else gather(compare)
    if other is not None:
        comparison.refuse_different(findings, other)
    document = compose(findings, other, made=made or datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    with atomic_folder(run.claim("report", overwrite=True), overwrite=True) as scratch:
        write(document, scratch, progress=progress)
    return Report(run.report, document, findings)


def compose(findings: Findings, other: Findings | None, *, made: str) -> Document:
    """The document, in the order in which somebody who must decide reads it."""
    parts: list[Section] = [tradeoff.section(findings), *dataset.sections(findings)]
    if other is not None:
        parts.append(comparison.section(findings, other))
    parts += [axes.section(findings), *field.sections(findings)]
    rooms = (policies, choices, calibration, search, cost, diagnosis)
    parts += [room.section(findings) for room in rooms]
    parts += [*training.sections(findings), provenance.section(findings)]
    return Document(
        title=f"Adaptive inference: {labels.readable(findings.run.folder.resolve().name)}",
        subtitle=_subtitle(findings),
        answers=verdict.answers(findings),
        sections=parts,
        made=made,
        version=__version__,
        warnings=findings.warnings,
    )


def write(document: Document, folder: Path, *, progress: Progress = lambda done, total: None) -> None:
    """Write the page, the text, and every figure and table into `folder`."""
    drawings, drawn = list(document.drawings()), {}
    for done, drawing in enumerate(drawings):
        progress(done, len(drawings))
        drawn[drawing.name] = _write_figure(drawing, folder / "figures")
    for grid in document.grids():
        write_csv(folder / "tables" / f"{grid.name}.csv", grid.frame.map(_readable))
    write_text(folder / TEXT, markdown.render(document))
    write_text(folder / INDEX, page.render(document, drawn))
    progress(len(drawings), len(drawings))


def _write_figure(drawing: Drawing, folder: Path) -> str:
    """Write a figure as PNG and SVG; returns it as the page takes it."""
    wide = drawing.draw(style.WIDE)
    write_bytes(folder / f"{drawing.name}.png", style.to_png(wide))
    write_text(folder / f"{drawing.name}.svg", style.to_svg(wide))
    return page.inline(drawing, wide)


def _readable(value: object) -> object:
    return labels.readable(value) if isinstance(value, str) else value


def _subtitle(findings: Findings) -> str:
    """What was measured: "90 configurations of digits on folder:X, reported on 2 000 test samples."."""
    named = {"model": "of", "data": "on"}
    told = [labels.plural(findings.table.n_configs, "configuration")]
    for key, word in named.items():
        facts = findings.table.meta.get(key)
        name = facts.get("name") if isinstance(facts, dict) else facts
        told += [f"{word} {name}"] if name else []
    return f"{' '.join(told)}, reported on {findings.n_text}."
