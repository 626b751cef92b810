"""`adap predict`."""

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from adapcli.commands.checkpoints import check_output, open_checkpoint, prepare
from adapcli.commands.options import (
    Background,
    Batch,
    Checkpoint,
    Compile,
    Depth,
    Device,
    Dtype,
    Json,
    MaxFlops,
    MaxPixels,
    Overwrite,
    Quiet,
    RunFolder,
    Threads,
    Tokens,
    Width,
    whole,
)
from adapcli.commands.predictions import (
    Layout,
    MapLayout,
    csv_line,
    destination,
    layout_of,
    show_summary,
    summary,
    tell_skipped,
    text,
)
from adapcli.commands.recalibrations import Place, open_calibrated
from adapcli.commands.units import flops_text, percent_text, seconds_text
from adapcli.console import Console, Progress

if TYPE_CHECKING:
    from adapcli.data.images import Decoding
    from adapcli.inference.predict import How, Predictor, Tally
    from adapcli.inference.recalibrations import Recalibrations
    from adapcli.model.perceiver import AdaPerceiver
    from adapcli.run import Run


def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|FOLDER|-", help="Files or folders of images; - reads paths from stdin."
        ),
    ],
    ckpt: Checkpoint = None,
    policy: Annotated[
        str | None,
        typer.Option("--policy", metavar="NAME|FOLDER", help="A policy of the run folder, or its place."),
    ] = None,
    tokens: Tokens = None,
    width: Width = None,
    depth: Depth = None,
    calibration: Place = None,
    max_flops: MaxFlops = None,
    top: Annotated[
        int, typer.Option("--top", parser=whole(1, 10**6), metavar="K", help="Tell the K likeliest classes.")
    ] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the CSV there.")
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option("--maps", metavar="DIR", help="Write masks or depth maps there, as PNG (dense models)."),
    ] = None,
    summary_only: Annotated[
        bool, typer.Option("--summary", help="Throughput and mean cost in place of the predictions.")
    ] = False,
    background: Background = None,
    max_pixels: MaxPixels = None,
    batch: Batch = 32,
    max_in_flight: Annotated[
        int | None,
        typer.Option(
            "--max-in-flight",
            parser=whole(1, 10**6),
            metavar="N",
            help="Pictures under way at once.",
            show_default="what 1 GiB holds",
        ),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    compile: Compile = False,
    threads: Threads = None,
    overwrite: Overwrite = False,
    run: RunFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict the classes of pictures, or draw their maps, with the configuration used and its cost.

    Prints CSV. Without a policy or --tokens, --width, --depth the full configuration runs. A policy's answers
    are calibrated if its table was, a configuration's with --calibration. Paths from stdin are one per line.
    Pictures that cannot be read are skipped and told; the exit code is 3 if none can.
    """
    from adapcli.data.pictures import find_pictures
    from adapcli.data.spec import DataSpec
    from adapcli.measure.device import resolve
    from adapcli.run import Run

    console, folder, where = Console(json=json, quiet=quiet), Run.open(run), resolve(device)
    paths = find_pictures(_places(console, images))
    model, source = open_checkpoint(console, ckpt, folder, reads=True)
    _check_output(output, source, paths, overwrite=overwrite)
    how = _how(console, model, folder, policy, tokens=tokens, width=width, depth=depth)
    layout = layout_of(model, top, maps, paths, summary_only=summary_only, overwrite=overwrite)
    prepare(model, where, threads=threads, compile=compile)
    limits: dict[str, Any] = {"top": top, "batch": batch, "max_in_flight": max_in_flight}
    limits |= {"max_flops": max_flops, "recalibrations": _recalibrations(calibration, policy, model, how)}
    decoding = DataSpec(background=background, max_pixels=max_pixels).decoding(model.preprocessing)
    predictor = _predictor(model, paths, how, dtype, decoding, **limits)
    shown = not (summary_only or output)
    rows = _write(console, predictor, layout, output, shown=shown, total=len(paths))
    found = summary(predictor.tally, model)
    _tell(console, predictor.tally, found, output, summary_only=summary_only)
    skipped = [{"path": text(path), "reason": reason} for path, reason in predictor.tally.skipped]
    facts = {"checkpoint": source, "policy": policy, "output": output, "skipped": skipped, "summary": found}
    console.result({**facts, "predictions": rows} if shown else facts)


def _places(console: Console, images: list[str]) -> list[str]:
    """What was named, `-` replaced by the lines of stdin; UsageError if that leaves nothing."""
    from adapcli.errors import UsageError

    places: list[str] = []
    for image in images:
        places += _lines(console) if image == "-" else [image]
    if not places:
        raise UsageError("no paths on stdin", "expected one per line, such as from `find DIR -name '*.jpg'`")
    return places


def _lines(console: Console) -> list[str]:
    """Paths on stdin, one per line; empty lines do not count."""
    if sys.stdin.isatty():
        console.say("reading paths from the terminal, one per line; Ctrl-D ends")
    lines = sys.stdin.buffer.read().split(b"\n")
    return [os.fsdecode(line.removesuffix(b"\r")) for line in lines if line.strip()]


def _check_output(output: Path | None, source: str, paths: Sequence[str], *, overwrite: bool) -> None:
    from adapcli.errors import UsageError

    if output is None:
        return
    if output.exists() and not output.is_file():
        raise UsageError(f"{output}: not a file", "choose another name with --output")
    check_output(output, source, overwrite=overwrite)
    if output.exists() and any(_same_file(path, output) for path in paths):
        raise UsageError(f"{output} is one of the pictures", "choose another name with --output")


def _same_file(path: str, output: Path) -> bool:
    with suppress(OSError, ValueError):  # not there, or no path at all: said when it is read
        return Path(path).samefile(output)
    return False


def _how(
    console: Console, model: "AdaPerceiver", run: "Run", policy: str | None, **axes: int | None
) -> "How":
    """The policy, the configuration asked for, or the full one, which is said."""
    from adapcli.commands.policies import open_policy
    from adapcli.errors import UsageError

    given = [f"--{axis}" for axis, value in axes.items() if value is not None]
    if policy is None:
        configuration = model.config.space.pick(**axes)
        if not given:
            console.say(f"no policy or configuration given: running the full one, {configuration}")
        return configuration
    if given:
        raise UsageError(f"--policy and {given[0]} exclude each other", "a policy chooses the configuration")
    return cast("How", open_policy(policy, run, model))


def _recalibrations(
    place: Path | None, policy: str | None, model: "AdaPerceiver", how: "How"
) -> "Recalibrations | None":
    """Of a run or a policy, for a configuration; UsageError for one that was not calibrated there."""
    from adapcli.errors import UsageError
    from adapcli.inference.recalibrations import Recalibrations
    from adapcli.space import Configuration

    if place is None:
        return None
    if policy is not None or not isinstance(how, Configuration):
        raise UsageError("--policy and --calibration exclude each other", "a policy brings its own")
    found = Recalibrations.of(open_calibrated(place, model), model)
    assert found is not None
    found.require(how)
    return found


def _predictor(
    model: "AdaPerceiver",
    paths: Sequence[str],
    how: "How",
    dtype: str,
    decoding: "Decoding",
    *,
    batch: int,
    max_in_flight: int | None,
    **limits: Any,
) -> "Predictor":
    from adapcli.data.pictures import read_pictures
    from adapcli.inference.predict import Predictor
    from adapcli.model.precision import resolve_dtype

    limits |= {"batch": batch, "max_in_flight": max_in_flight}
    pictures = read_pictures(
        paths, model.preprocessing, ahead=2 * min(batch, max_in_flight or batch), how=decoding
    )
    exact = resolve_dtype(dtype, model.device)
    return Predictor(model, pictures, how, dtype=exact, **limits)


def _write(
    console: Console,
    predictor: "Predictor",
    layout: Layout | MapLayout,
    output: Path | None,
    *,
    shown: bool,
    total: int,
) -> list[dict[str, Any]]:
    """Run; rows to their place as they come, and for --json all of them. FileError if nothing can be read."""
    records, tally = [], predictor.tally
    with destination(console, output, shown=shown) as write, _progress(console, shown=shown) as progress:
        for prediction in predictor:
            if tally.predicted == 1:
                write(csv_line(layout.columns))
            write(layout.line(prediction))
            if shown and console.json:
                records.append(layout.record(prediction))
            progress(tally.predicted + len(tally.skipped), total)
        if not tally.predicted:
            raise _nothing_read(tally)
    return records


def _nothing_read(tally: "Tally") -> Exception:
    from adapcli.errors import FileError

    told = f"{text(tally.skipped[0].path)}: {tally.skipped[0].reason}"
    if len(tally.skipped) == 1:
        return FileError(told)
    return FileError(f"none of {len(tally.skipped)} pictures can be read", f"first: {told}")


def _progress(console: Console, *, shown: bool) -> "AbstractContextManager[Progress]":
    """No bar among rows on a terminal: they tell how far it is."""
    if shown and not console.json and sys.stdout.isatty():
        return nullcontext(lambda done, total, note="": None)
    return console.progress("predicting")


def _tell(
    console: Console, tally: "Tally", found: dict[str, Any], output: Path | None, *, summary_only: bool
) -> None:
    if summary_only:
        show_summary(console, found)
    tell_skipped(console, tally)
    if tally.transparent:
        console.say(f"{tally.transparent} pictures have transparent pixels, composited on the background")
    mean, seconds = found["mean_cost_flops"], seconds_text(found["seconds"])
    cost = f"{flops_text(mean)}, {percent_text(mean / found['full_cost_flops'])} of the full configuration"
    console.say(f"{found['images']} pictures in {seconds}; mean cost {cost}")
    if output is not None:
        console.say(f"predictions: {output}")
