"""What a user says about data: where they are and how to read them, as one value.

A `DataSpec` is made from the options of a command, passed to everything that opens data, written into a table
and a run, and read back by the commands that open the same data again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from adapcli.data.splitting import Splitting
from adapcli.errors import FileError, UsageError


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Data by name, and how to read them.

    name: `digits`, or a path after `folder:`, `npz:`, `webdataset:` or `hf:`. split_by: how images are
    divided into splits (`Splitting.parse`); for `digits`, whose scenes are endless, F:T:C:E asks for that
    many of each. seed: draws other scenes, or divides images differently. depth_scale: values per metre of
    depth maps; None: what the folder says, or 1000.
    """

    name: str = "digits"
    split_by: str = "auto"
    seed: int = 0
    depth_scale: float | None = None

    def __post_init__(self) -> None:
        Splitting.parse(self.split_by)

    @classmethod
    def of(cls, data: "str | DataSpec", **options: Any) -> "DataSpec":
        """A spec as it is, or one made from a name; `options`: fields that replace its own.

        UsageError for an option that does not exist or cannot be read.
        """
        unknown = sorted(options.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise UsageError(f"data option {unknown[0]!r}: not known")
        return replace(data, **options) if isinstance(data, DataSpec) else cls(name=data, **options)

    @property
    def splitting(self) -> Splitting:
        """How images are divided into splits."""
        return Splitting.parse(self.split_by)

    def absolute(self) -> "DataSpec":
        """The same with paths on disk made absolute, so that it holds in any working directory."""
        kind, colon, place = self.name.partition(":")
        path = Path(place).expanduser()
        there = kind == "folder" or (colon and path.exists())
        return replace(self, name=f"{kind}:{path.absolute()}") if there else self

    def to_dict(self) -> dict[str, Any]:
        """As JSON: name, split_by and seed, and whatever else differs from its default."""
        from adapcli.data.listing import readable_name

        always = {"name": readable_name(Path(self.name)), "split_by": self.split_by, "seed": self.seed}
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        return always | {k: v for k, v in values.items() if k not in always and v != defaults[k]}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "DataSpec":
        """From `to_dict`, among other keys that are ignored. FileError for what cannot be one."""
        known = {field.name: stored[field.name] for field in fields(cls) if field.name in stored}
        texts, number = (known.get("name"), known.get("split_by", "auto")), known.get("seed", 0)
        if not all(isinstance(text, str) for text in texts) or type(number) is not int:
            raise FileError("the record of the data is damaged", "name it with --data")
        return cls(**known)
