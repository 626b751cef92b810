"""From a name of data to what it holds: `folder:PATH`, `npz:PATH`, `webdataset:PATH` or `hf:PATH`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapcli.data.entries import Catalogue
from adapcli.data.listing import open_folder
from adapcli.data.spec import DataSpec
from adapcli.errors import UsageError


def open_catalogue(data: str | DataSpec, **options: Any) -> Catalogue:
    """What data hold, none of it decoded. data: a name or a `DataSpec`; options: fields of the spec.

    UsageError: unknown kind; FileError: nothing usable there, or parts that are not clear; UnavailableError:
    the kind needs an extra.
    """
    spec = DataSpec.of(data, **options)
    kind, colon, place = spec.name.partition(":")
    if not colon or kind not in OPEN:
        raise _unknown(spec.name)
    return OPEN[kind](place, spec)


def _npz(place: str, spec: DataSpec) -> Catalogue:
    from adapcli.data.npz import open_npz

    return open_npz(place, spec)


def _webdataset(place: str, spec: DataSpec) -> Catalogue:
    from adapcli.data.shards import open_shards

    return open_shards(place, spec)


def _hf(place: str, spec: DataSpec) -> Catalogue:
    from adapcli.data.hf import open_hf

    return open_hf(place, spec)


OPEN: dict[str, Callable[[str, DataSpec], Catalogue]] = {
    "folder": open_folder,
    "npz": _npz,
    "webdataset": _webdataset,
    "hf": _hf,
}


def _unknown(name: str) -> UsageError:
    is_folder = "/" in name or Path(name).is_dir()
    names = "digits, or folder:PATH with one subfolder per class; also npz:, webdataset: and hf:"
    hint = f"write folder:{name}" if is_folder else names
    return UsageError(f"data {name!r}: not known", hint)
