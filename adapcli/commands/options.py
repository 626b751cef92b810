"""Options that several commands share, as annotated types: one name, one range and one help text each."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer


def share(text: str) -> float:
    """A fraction as people write it, 0.7 or 70%; NaN for anything else. The range is up to the caller."""
    number, percent, rest = text.strip().partition("%")
    try:
        # Scaled as text: 0.7% is the same float as 0.007, which 0.7 / 100 is not.
        return math.nan if rest else float(f"{number.strip()}e-2" if percent else number)
    except ValueError:
        return math.nan


def fraction(text: str) -> float:
    """A number in (0, 1], as a fraction or in percent; BadParameter with both spellings otherwise."""
    value = share(text)
    if not 0 < value <= 1:
        meant = value / 100 if 2 <= value <= 100 else 0.7
        raise typer.BadParameter(
            f"{text!r}: expected a fraction in (0, 1]: write {meant:g} or {100 * meant:g}%"
        )
    return value


def whole(low: int, high: int) -> Callable[[str | int], int]:
    """A parser for whole numbers from `low` to `high`; its BadParameter names the range."""

    def parse(given: str | int) -> int:  # a default arrives as it is
        text = str(given)
        if not re.fullmatch(r"-?[0-9]{1,20}", text) or not low <= int(text) <= high:
            raise typer.BadParameter(f"{text!r}: expected a whole number from {low} to {high}")
        return int(text)

    return parse


def device(text: str) -> str:
    """`auto`, `cpu`, `cuda` or `cuda:N`; whether it is there is found out when it is used."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text):
        raise typer.BadParameter(f"{text!r}: allowed are auto, cpu, cuda, cuda:N")
    return text


def flops_count(given: str | int) -> int:
    """FLOPs as people write them: 5000000, 5e6, 5M, 1.5G; BadParameter for anything else, or below 1."""
    text = str(given)
    found = re.fullmatch(r"([0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][0-9]{1,2})?) ?([kMGTP]?)(?:FLOPs)?", text)
    value = float(found[1]) * 1000 ** " kMGTP".index(found[2] or " ") if found else 0.0
    if not 1 <= value <= 1e30:
        raise typer.BadParameter(f"{text!r}: expected FLOPs: write 5e6, 5M or 1.5G")
    return int(value)


def assignments(keys: tuple[str, ...], turned: bool = False) -> Callable[[str], dict[str, str]]:
    """A parser for KEY=NAME,KEY=NAME with these keys; turned: as {NAME: KEY}, and keys may repeat."""

    def parse(text: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for piece in text.split(","):
            key, equals, name = (word.strip() for word in piece.partition("="))
            if not (equals and name and key in keys) or (name if turned else key) in found:
                raise typer.BadParameter(
                    f"{text!r}: expected {'=NAME, '.join(keys)}=NAME, some of them, with commas between"
                )
            found |= {name: key} if turned else {key: name}
        return found

    return parse


def background(text: str) -> str:
    """`white`, `black` or `#RRGGBB`; BadParameter otherwise."""
    from adapcli.model.preprocessing import is_background

    if not is_background(text):
        raise typer.BadParameter(f"{text!r}: expected white, black or #RRGGBB")
    return text


def data_options(
    *,
    classes: Path | None = None,
    columns: dict[str, str] | None = None,
    parts: dict[str, str] | None = None,
    background: str | None = None,
    max_pixels: int | None = None,
) -> dict[str, Any]:
    """Fields of a `DataSpec` for those of the options that are given. FileError for an unusable file."""
    from adapcli.data.classes import read_classes

    given: dict[str, Any] = {"columns": columns, "parts": parts}
    given |= {"background": background, "max_pixels": max_pixels}
    given["classes"] = read_classes(classes) if classes is not None else None
    return {name: value for name, value in given.items() if value is not None}


def one_of(*names: str) -> Callable[[str], str]:
    """A parser for these names; its BadParameter lists them."""

    def parse(text: str) -> str:
        if text not in names:
            raise typer.BadParameter(f"{text!r}: allowed are {', '.join(names)}")
        return text

    return parse


RunFolder = Annotated[
    Path | None,
    typer.Option(
        "--run",
        envvar="ADAP_RUN",
        metavar="DIR",
        help="Run folder.",
        show_default="adap-run",
        show_envvar=True,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks on stderr.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue where an interrupted run stopped.")]
Checkpoint = Annotated[
    str | None,
    typer.Option("--ckpt", metavar="PATH", help="A folder, a .pt or .safetensors file, or hf://owner/name."),
]
Device = Annotated[
    str, typer.Option("--device", parser=device, metavar="NAME", help="auto, cpu, cuda or cuda:N.")
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        parser=one_of("auto", "float32", "bfloat16"),
        metavar="NAME",
        help="float32, bfloat16, or auto: bfloat16 on CUDA.",
    ),
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the blocks first; pays on long runs.")]
Batch = Annotated[
    int, typer.Option("--batch", parser=whole(1, 65536), metavar="N", help="Samples per batch.")
]
Seed = Annotated[int, typer.Option("--seed", parser=whole(0, 2**32 - 1), metavar="N", help="Random seed.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", parser=whole(1, 1024), metavar="N", help="Torch threads (1 for small models)."),
]
Workers = Annotated[
    int, typer.Option("--workers", parser=whole(0, 256), metavar="N", help="Processes that read data ahead.")
]
DATA_HELP = "digits, or PATH after folder:, npz:, webdataset: or hf:."
Classes = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="Which class each label is: a label per line in the model's order, or JSON {label: class}.",
    ),
]
Columns = Annotated[
    dict[str, str] | None,
    typer.Option(
        "--columns",
        parser=assignments(("image", "label", "split")),
        metavar="image=NAME,label=NAME",
        help="Columns of a table or manifest.",
    ),
]
Parts = Annotated[
    dict[str, str] | None,
    typer.Option(
        "--parts",
        parser=assignments(("train", "val", "test"), turned=True),
        metavar="train=NAME,val=NAME,test=NAME",
        help="Which folders, files or arrays are which part; others are left out.",
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        "--background",
        parser=background,
        metavar="COLOUR",
        help="What transparent pixels are composited on: white, black or #RRGGBB.",
        show_default="the checkpoint's: white",
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        parser=whole(1, 2**40),
        metavar="N",
        help="Refuse images of more pixels.",
        show_default="89478485",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", parser=whole(1, 10**12), metavar="N", help="Use at most this many samples."),
]
Tokens = Annotated[
    int | None,
    typer.Option(
        "--tokens", parser=whole(1, 10**6), metavar="T", help="Latent tokens. [default: the model's most]"
    ),
]
Width = Annotated[
    int | None,
    typer.Option(
        "--width", parser=whole(1, 10**6), metavar="W", help="FFN width. [default: the model's widest]"
    ),
]
Depth = Annotated[
    int | None,
    typer.Option("--depth", parser=whole(1, 10**6), metavar="L", help="Blocks. [default: all of them]"),
]
OutputPath = Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="What to write.")]
FlopsTarget = Annotated[
    float | None,
    typer.Option(
        "--flops-target",
        parser=fraction,
        metavar="FRACTION",
        help="FLOPs at most this part of the full model's: 0.7 or 70%.",
    ),
]
MaxFlops = Annotated[
    int | None,
    typer.Option(
        "--max-flops",
        parser=flops_count,
        metavar="FLOPS",
        help="At most this for each sample: 5e6, 5M, 1.5G.",
    ),
]
