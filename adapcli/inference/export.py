"""A fixed configuration as a file that other runtimes execute: ONNX, or torch's own pt2. Any batch size.

Either file says how to feed it, as JSON: in ONNX the metadata property `adap`, in pt2 the extra file
`adap.json`. Both are for deployment, `adap` never reads them: `torch.export.load` unpickles what it is given,
so it must not see a stranger's file. The check below loads the very bytes that this process has just made.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapcli import __version__
from adapcli.errors import AdapError, UnavailableError, UsageError, pip_install
from adapcli.inference.fixed import ANSWERS, FixedModel
from adapcli.measure.device import EXTRAS
from adapcli.model.flops import executed_flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import Configuration
from policies.files import write_bytes
from policies.shown import short_repr

INPUT, METADATA = "images", "adap"
BATCHES = (1, 3)
"""The batch sizes that are checked; the file is traced with another, 2."""
RELATIVE_BOUND = 1e-4
"""The largest difference of an answer from the original's, as a part of the largest answer; in float32."""
ONNX_BYTES = 2**31 - 2**26
"""What fits into one ONNX file, with room for what is not weights: protobuf ends at 2 GiB."""

Run = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True)
class Exported:
    """What was written; the errors are the largest over answers and checked batches."""

    __repr__ = short_repr

    path: Path
    format: str
    bytes: int
    max_abs_error: float
    max_relative_error: float
    metadata: dict[str, Any]


def export(
    model: AdaPerceiver,
    path: str | Path,
    configuration: Configuration | None = None,
    *,
    format: str | None = None,
) -> Exported:
    """Write `configuration` (default: the full one) as `format` onnx or pt2, by default the path's ending.

    The file takes normalised float32 images (batch, channels, size, size) of the preprocessing's size; a file
    that is there is replaced. It is run and compared with `model` before it is written.
    Raises UsageError for a configuration that cannot be run, an unknown format or a folder, UnavailableError
    if ONNX is asked for and its packages are not installed, AdapError if the answers differ: nothing is
    written then.
    """
    path = Path(path)
    format = format_of(path, format)
    if path.is_dir():
        raise UsageError(f"{path} is a folder", "give the name of a file")
    configuration = configuration or model.full_configuration
    model.config.check(configuration)
    fixed = FixedModel(model, configuration, model.preprocessing.size)
    metadata = describe(model, configuration)
    make, load = (_onnx, _run_onnx) if format == "onnx" else (_pt2, _run_pt2)
    with _quiet(), torch.no_grad():
        content = make(fixed, json.dumps(metadata))
        absolute, relative = _errors(model, configuration, load(content))
    if not relative <= RELATIVE_BOUND:
        told = f"the exported model's answers are off by {relative:.1e} of the largest"
        raise AdapError(f"{path}: {told}, allowed is {RELATIVE_BOUND:.0e}; nothing was written")
    write_bytes(path, content)
    return Exported(path, format, len(content), absolute, relative, metadata)


def format_of(path: Path, format: str | None) -> str:
    """`onnx` or `pt2`, as told or by the path's ending. UsageError if it is neither.

    UnavailableError if it is onnx and packages are missing.
    """
    told = path.suffix.removeprefix(".") if format is None else format
    if told not in ("onnx", "pt2"):
        wrong = f"{path}: cannot tell the format" if format is None else f"format {format!r}: not known"
        raise UsageError(wrong, "allowed: onnx, pt2, as --format or the name's ending")
    if told == "onnx":
        _need_onnx()
    return told


def describe(model: AdaPerceiver, configuration: Configuration) -> dict[str, Any]:
    """What a user of the file needs to know to feed it and to read its answers. JSON values only."""
    config, size = model.config, model.preprocessing.size
    widths = configuration.width
    return {
        "adap": __version__,
        "task": config.task,
        "configuration": {
            "tokens": configuration.tokens,
            "width": widths if isinstance(widths, int) else list(widths),
            "depth": configuration.depth,
        },
        "input": {
            "name": INPUT,
            "dtype": "float32",
            "shape": ["batch", config.in_channels, size, size],
            "values": "pixels in 0..1, less mean, divided by std",
        },
        "outputs": list(ANSWERS[config.task]),
        "preprocessing": model.preprocessing.to_dict(),
        "class_names": list(model.class_names),
        "cost_flops": executed_flops(config, configuration, size),
    }


def _errors(model: AdaPerceiver, configuration: Configuration, run: Run) -> tuple[float, float]:
    """The largest difference from the original on random images, and as a part of its largest answer."""
    generator, size = torch.Generator().manual_seed(0), model.preprocessing.size
    pairs = []
    for batch in BATCHES:
        x = torch.randn(batch, model.config.in_channels, size, size, generator=generator)
        for found, wanted in zip(run(x), _answers(model, x, configuration), strict=True):
            off = (found - wanted).abs().max() if found.shape == wanted.shape else torch.tensor(torch.inf)
            pairs.append(torch.stack((off, off / wanted.abs().max().clamp(min=1e-30))))
    absolute, relative = torch.stack(pairs).amax(0).tolist()  # NaN if any is
    return absolute, relative


def _answers(model: AdaPerceiver, x: Tensor, configuration: Configuration) -> list[Tensor]:
    was_training = model.training
    try:
        out = model.eval()(x.to(model.device), configuration)
    finally:
        model.train(was_training)
    return [getattr(out, name).cpu() for name in ANSWERS[model.config.task]]


def _traced(fixed: FixedModel) -> "torch.export.ExportedProgram":
    """The graph of aten operators, without the places in this machine's files that they came from."""
    config, size = fixed.model.config, fixed.image_size
    example = torch.zeros(2, config.in_channels, size, size)
    program = torch.export.export(fixed, (example,), dynamic_shapes=_dynamic())
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


def _dynamic() -> dict[str, Any]:
    return {INPUT: {0: torch.export.Dim("batch")}}


def _pt2(fixed: FixedModel, metadata: str) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(_traced(fixed), buffer, extra_files={f"{METADATA}.json": metadata})
    return buffer.getvalue()


def _run_pt2(content: bytes) -> Run:
    program = torch.export.load(io.BytesIO(content)).module()

    def run(x: Tensor) -> list[Tensor]:
        return list(program(x))

    return run


def _onnx(fixed: FixedModel, metadata: str) -> bytes:
    from onnxscript import optimizer

    weights = sum(tensor.numel() * tensor.element_size() for tensor in fixed.state_dict().values())
    if weights > ONNX_BYTES:
        raise AdapError(
            f"{weights} bytes of weights: more than an ONNX file holds", "format pt2 has no limit"
        )
    program = torch.onnx.export(
        _traced(fixed),
        dynamo=True,
        optimize=False,
        verbose=False,
        dynamic_shapes=_dynamic(),
        input_names=[INPUT],
        output_names=list(fixed.answers),
    )
    assert program is not None
    # Without the pattern rewriter, whose time grows with the square of the graph: three minutes at the
    # published size. Runtimes fuse for themselves: onnxruntime ran both alike.
    optimizer.inline(program.model)
    optimizer.fold_constants(program.model)
    optimizer.remove_unused_nodes(program.model)
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    program.model.metadata_props[METADATA] = metadata
    content: bytes = program.model_proto.SerializeToString()
    return content


def _run_onnx(content: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> list[Tensor]:
        return [torch.from_numpy(answer) for answer in session.run(None, {INPUT: x.numpy()})]

    return run


def _need_onnx() -> None:
    for name in EXTRAS["export"]:
        try:
            import_module(name)
        except ImportError as error:
            raise UnavailableError("ONNX needs the export extra", pip_install("export")) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters warn of their own insides, and of torchvision, which nothing here needs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
