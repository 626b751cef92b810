"""What a user says about data: where they are and how to read them, as one value.

A `DataSpec` is made from the options of a command, passed to everything that opens data, written into a table
and a run, and read back by the commands that open the same data again.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapcli.data.splitting import Splitting
from adapcli.errors import FileError, UsageError
from adapcli.model.preprocessing import Preprocessing, is_background, rgb

if TYPE_CHECKING:
    from adapcli.data.images import Decoding

PARTS = ("train", "val", "test")
COLUMNS = ("image", "label", "split")
Classes = tuple[str, ...] | Mapping[str, int | str]
"""Labels in the order of the model's classes, or the class (name or number) of each label."""


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Data by name, and how to read them.

    name: `digits`, or a path after `folder:`, `npz:`, `webdataset:` or `hf:`. split_by: how images are
    divided into splits (`Splitting.parse`); for `digits`, whose scenes are endless, F:T:C:E asks for that
    many of each. seed: draws other scenes, or divides images differently. train_share: where there is no part
    to train on, this fraction of the images is it, and the other splits are drawn from the rest. parts: the
    part (train, val or test) of each folder, file or array, by name or pattern; none: by `parts.PART_NAMES`.
    classes: which classes labels stand for, see `classes`; none: by name. columns: the names of the columns
    image, label and split in tables. depth_scale: values per metre of depth maps; None: what the folder says,
    or 1000. background: what transparent pixels are composited on, white, black or #RRGGBB; None: what the
    model's preprocessing says. max_pixels: larger images are refused; None: `images.MAX_PIXELS`.

    UsageError for values that cannot be one.
    """

    name: str = "digits"
    split_by: str = "auto"
    seed: int = 0
    train_share: float = 0.0
    parts: Mapping[str, str] = field(default_factory=dict)
    classes: Classes = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    depth_scale: float | None = None
    background: str | None = None
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        Splitting.parse(self.split_by)
        if not 0 <= self.train_share < 1:
            raise UsageError(f"train share {self.train_share}: expected a fraction in [0, 1)")
        if not set(self.parts.values()) <= set(PARTS):
            raise UsageError(f"parts: expected {', '.join(PARTS)}")
        if not set(self.columns) <= set(COLUMNS):
            raise UsageError(f"columns: expected {', '.join(COLUMNS)}")
        if self.background is not None and not is_background(self.background):
            raise UsageError(f"background {self.background[:40]!r}: expected white, black or #RRGGBB")
        if self.max_pixels is not None and self.max_pixels < 1:
            raise UsageError(f"max pixels {self.max_pixels}: expected 1 or more")
        if isinstance(self.classes, list):
            object.__setattr__(self, "classes", tuple(self.classes))

    @classmethod
    def of(cls, data: "str | DataSpec", **options: Any) -> "DataSpec":
        """A spec as it is, or one made from a name; `options`: fields that replace its own.

        UsageError for an option that does not exist or cannot be read.
        """
        unknown = sorted(options.keys() - {known.name for known in fields(cls)})
        if unknown:
            raise UsageError(f"data option {unknown[0]!r}: not known")
        return replace(data, **options) if isinstance(data, DataSpec) else cls(name=data, **options)

    @property
    def splitting(self) -> Splitting:
        """How images are divided into splits."""
        return Splitting.parse(self.split_by)

    def decoding(self, preprocessing: Preprocessing | None = None) -> "Decoding":
        """How images are decoded for a model with this preprocessing."""
        from adapcli.data.images import MAX_PIXELS, Decoding

        usual = "white" if preprocessing is None else preprocessing.background
        return Decoding(rgb(self.background or usual), self.max_pixels or MAX_PIXELS)

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
        values = {known.name: getattr(self, known.name) for known in fields(self)}
        return always | {k: _plain(v) for k, v in values.items() if k not in always and v != _default(k)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "DataSpec":
        """From `to_dict`, among other keys that are ignored. FileError for what cannot be one."""
        known = {one.name: stored[one.name] for one in fields(cls) if one.name in stored}
        kinds: dict[str, tuple[type, ...]] = {
            "name": (str,),
            "split_by": (str,),
            "seed": (int,),
            "train_share": (float, int),
            "depth_scale": (float, int, type(None)),
            "background": (str, type(None)),
            "max_pixels": (int, type(None)),
        }
        good = all(type(known[key]) in allowed for key, allowed in kinds.items() if key in known)
        good = good and all(_are_texts(known.get(key, {})) for key in ("parts", "columns"))
        if not good or not are_classes(known.get("classes", [])):
            raise FileError("the record of the data is damaged", "name it with --data")
        return cls(**known)


def are_classes(value: object) -> bool:
    """Whether a value from JSON may be `DataSpec.classes`."""
    if isinstance(value, dict):
        return all(type(meaning) in (int, str) for meaning in value.values())
    return isinstance(value, list | tuple) and all(isinstance(label, str) for label in value)


def _are_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _default(name: str) -> Any:
    (found,) = (one for one in fields(DataSpec) if one.name == name)
    return found.default if found.default_factory is MISSING else found.default_factory()


def _plain(value: Any) -> Any:
    """As JSON."""
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
