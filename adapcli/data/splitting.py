"""How the pictures of a folder are shared out over the splits."""

import re
from dataclasses import dataclass

from adapcli.errors import UsageError

# Relative sizes of the splits that share one folder, as in `digits`.
SHARES = {"fit": 12, "tune": 4, "calibration": 8, "test": 20}

WAYS = ("auto", "folders", "ratio")
_RATIO = re.compile("[0-9]{1,6}(:[0-9]{1,6}){3}")


@dataclass(frozen=True)
class Splitting:
    """by: "folders" (named val and test), "ratio" (subfolders are classes, whatever their names), or "auto".

    auto: by folders where the folder has some of them and nothing else, else by ratio. shares: relative sizes
    by split, all positive; for "folders", val is shared out over the splits other than test.
    """

    by: str
    shares: dict[str, int]

    @classmethod
    def parse(cls, text: str) -> "Splitting":
        """From `auto`, `folders`, `ratio`, or the shares of a ratio as F:T:C:E. UsageError otherwise."""
        if text in WAYS:
            return cls(text, SHARES)
        values = [int(part) for part in text.split(":")] if _RATIO.fullmatch(text) else []
        if not all(values) or not values:
            raise UsageError(
                f"split {text[:80]!r}: not known",
                "auto, folders, ratio, or the shares of fit, tune, calibration and test: 12:4:8:20",
            )
        return cls("ratio", dict(zip(SHARES, values, strict=True)))
