"""metrics.jsonl: what a run measured, one JSON object a line, whole or absent, and no line twice."""

import json
from pathlib import Path
from typing import Any

from adapcli.errors import AdapError
from policies.files import write_text


class Journal:
    """Lines with a `step`, appended as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, line: dict[str, Any]) -> None:
        """Append a line. Values must be numbers that JSON has. AdapError if the disk is full."""
        text = json.dumps(line, allow_nan=False) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            hint = "with space, --resume goes on from the last saved state"
            raise AdapError(f"cannot write {self.path}: {error.strerror or error}", hint) from error

    def truncate(self, step: int) -> None:
        """Keep the lines up to `step`: later ones, and one cut short by a crash, are written again."""
        if self.path.exists():
            kept = [json.dumps(line) for line in read_lines(self.path) if line["step"] <= step]
            write_text(self.path, "".join(f"{line}\n" for line in kept))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal up to the first that is damaged; none if there is no such file."""
    lines: list[dict[str, Any]] = []
    if not path.exists():
        return lines
    for text in path.read_text("utf-8", "replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not isinstance(line, dict) or type(line.get("step")) is not int:
            break
        lines.append(line)
    return lines
