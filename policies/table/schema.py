"""What an outcome table is made of: names, types and the version of its layout on disk."""

from typing import Any

import pandas as pd
from numpy.typing import NDArray

Array = NDArray[Any]

SCHEMA_VERSION = 1
SPLITS = ("fit", "tune", "calibration", "test")
COST_COLUMNS = ("cost_flops", "readout_flops", "memory_bytes")
SAMPLE_COLUMNS = ("sample_id", "target", "split")
AXES = ("model", "tokens", "width", "depth")

# Arrays with one row per sample, in the order they are stored, and the types each may have.
DTYPES: dict[str, tuple[str, ...]] = {
    "score": ("float32",),
    "agreement": ("float32",),
    "prediction": ("int16", "int32"),
    "nll": ("float32",),
    "signals": ("float32",),
    "features": ("float32",),
    "patches": ("float16",),
    "metrics": ("float32", "uint16", "uint32"),
}
REQUIRED = ("score", "agreement", "signals", "features")
UNIT_RANGE = ("score", "agreement")
# Keys of meta.json that the table itself writes; everything else in it is the caller's. Of that, `labels: false`
# says that no sample has a label: score is agreement, value by value, every target is -1, and there is no nll
# (see validation.check_labels). Without the key there are labels.
OWN_META = ("schema_version", "id_columns", "signal_names", "feature_names", "feature_flops", "arrays")


def id_columns(configs: pd.DataFrame) -> list[str]:
    """The columns that say which configuration a row is: the known axes, then others that are no measures."""
    known = [name for name in AXES if name in configs.columns]
    axes = set(AXES)
    others = [str(name) for name in configs.columns if name not in axes and not _is_measure(str(name))]
    return known + others


def _is_measure(name: str) -> bool:
    return name.endswith(("_flops", "_bytes", "_ms"))
