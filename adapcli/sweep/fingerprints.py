"""What must be the same for two tables, or two halves of one, to belong together."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from adapcli.errors import FileError
from adapcli.model.perceiver import AdaPerceiver
from policies.table.writer import differences


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
