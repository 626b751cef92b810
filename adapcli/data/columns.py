"""Which columns of a table hold pictures and their classes."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from adapcli.errors import FileError

PICTURES = ("image", "img", "picture", "jpg", "png")
LABELS = ("label", "labels", "fine_label", "cls", "class", "target")


class Columns(NamedTuple):
    """Which columns hold pictures and classes, and what the classes' numbers stand for."""

    picture: str
    label: str
    class_names: tuple[str, ...]


def find_columns(place: str, schema: Any) -> Columns:
    """By the features that Hugging Face's libraries note, else by usual names. FileError if there is none."""
    features = _features(schema)
    pictures = [name for name in schema.names if _of_type(features, name, "Image")]
    labels = [name for name in schema.names if _of_type(features, name, "ClassLabel")]
    pictures = pictures or [name for name in PICTURES if name in schema.names]
    labels = labels or [name for name in LABELS if name in schema.names]
    if not pictures or not labels:
        raise FileError(
            f"{place}: no column of {'pictures' if not pictures else 'classes'} in it",
            f"found {', '.join(schema.names[:8]) or 'none'}; expected image and label",
        )
    names = features.get(labels[0], {}).get("names") if _of_type(features, labels[0], "ClassLabel") else None
    usable = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return Columns(pictures[0], labels[0], tuple(names) if usable and names else ())


def _features(schema: Any) -> Mapping[str, Any]:
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_type(features: Mapping[str, Any], name: str, kind: str) -> bool:
    feature = features.get(name)
    return isinstance(feature, dict) and feature.get("_type") == kind
