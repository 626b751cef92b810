"""Which columns of a table hold images and their classes."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from adapcli.errors import FileError

IMAGES = ("image", "img", "picture", "jpg", "png")
LABELS = ("label", "labels", "fine_label", "cls", "class", "target")


class Columns(NamedTuple):
    """Which columns hold images and classes ("" if none does), and what the classes' numbers stand for."""

    picture: str
    label: str
    class_names: tuple[str, ...]


def find_columns(place: str, schema: Any, said: Mapping[str, str] | None = None) -> Columns:
    """By the features that Hugging Face's libraries note, and by usual names. said: `DataSpec.columns`.

    FileError if there are no images, or if it is not clear which column is meant.
    """
    features, said = _features(schema), said or {}
    image = _one(place, "image", schema, features, said)
    if not image:
        raise FileError(
            f"{place}: no column of images in it",
            f"found {', '.join(schema.names[:8]) or 'none'}; or say --columns image=NAME,label=NAME",
        )
    label = _one(place, "label", schema, features, said)
    names = features.get(label, {}).get("names") if _of_type(features, label, "ClassLabel") else None
    usable = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return Columns(image, label, tuple(names) if usable and names else ())


def _one(place: str, kind: str, schema: Any, features: Mapping[str, Any], said: Mapping[str, str]) -> str:
    """The column of a kind, "" if there is none: as said, or noted and of a usual name, or the only one."""
    if kind in said:
        if said[kind] in schema.names:
            return said[kind]
        raise FileError(
            f"{place}: no column {said[kind]!r} in it", f"found {', '.join(schema.names[:8]) or 'none'}"
        )
    feature, usual = ("Image", IMAGES) if kind == "image" else ("ClassLabel", LABELS)
    noted = [name for name in schema.names if _of_type(features, name, feature)]
    called = [name for name in schema.names if name.lower() in usual]
    both = [name for name in noted if name in called]
    found = both or list(dict.fromkeys([*noted, *called]))
    if len(found) > 1:
        raise FileError(
            f"{place}: more than one column may be the {kind}: {', '.join(found[:8])}",
            f"say which it is: --columns {kind}=NAME",
        )
    return found[0] if found else ""


def _features(schema: Any) -> Mapping[str, Any]:
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_type(features: Mapping[str, Any], name: str, kind: str) -> bool:
    feature = features.get(name)
    return isinstance(feature, dict) and feature.get("_type") == kind
