"""What must be the same for two tables, or two halves of one, to belong together."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapcli.errors import FileError
from adapcli.model.perceiver import AdaPerceiver
from policies.table.recalibration import Recalibration, begun
from policies.table.writer import differences, partial_folder


def checkpoint_fingerprint(model: AdaPerceiver) -> str:
    """A digest of weights, architecture and preprocessing; the same whatever file they were loaded from."""
    header = {"config": model.config.to_dict(), "preprocessing": model.preprocessing.to_dict()}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]


def refuse_other(folder: object, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """FileError listing the fields of `wanted` that differ in `stored`, as dotted names."""
    told = differences(stored, wanted)
    if told:
        raise FileError(f"{folder}: made from something else: {told}", "begin again with --overwrite")


def refuse_other_recalibration(folder: Path, wanted: Recalibration | None) -> None:
    """FileError if a table, whole or under way, is in `folder` and was made with another, or with none."""
    there, stored = begun(folder, partial_folder(folder))
    told = [each.digest[:12] if each else "none" for each in (stored, wanted)]
    if there and told[0] != told[1]:
        raise FileError(
            f"{folder}: begun with another recalibration: {told[0]} there, {told[1]} here",
            "begin again with --overwrite, or go on with --calibrate if it was begun with it",
        )
