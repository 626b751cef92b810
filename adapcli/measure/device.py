"""The machine: its devices, threads, memory and installed packages.

Nothing heavy is imported until a function needs torch.
"""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapcli.errors import UnavailableError, UsageError
from adapcli.limits import cpus

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "torch",
    "numpy",
    "pandas",
    "matplotlib",
    "optuna",
    "gymnasium",
    "stable-baselines3",
    "typer",
    "rich",
    "safetensors",
    "pydantic",
    "jinja2",
    "pyyaml",
    "pillow",
    "scipy",
)
"""What the project depends on, as pyproject.toml lists it."""

SMALL_MODEL_FLOPS = 1e9
"""Below this cost of the full configuration, one thread is the faster choice."""

EXTRAS = {
    "hub": ("huggingface_hub",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "timm": ("timm", "torchvision"),
    "hf": ("transformers",),
    "data": ("pyarrow", "huggingface_hub"),
    "tensorboard": ("tensorboard",),
    "soap": ("pytorch-optimizer",),
}
"""Optional extras and the packages they bring."""


def version(package: str) -> str | None:
    """The installed version of `package`, None if it is not installed. Imports nothing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """Versions of Python and of every package that the project depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def missing_extras() -> dict[str, list[str]]:
    """Per extra, the packages that are not installed; an empty list where it is complete."""
    return {extra: [name for name in names if version(name) is None] for extra, names in EXTRAS.items()}


def resolve(name: str) -> "torch.device":
    """The device called `auto`, `cpu`, `cuda` or `cuda:N`; auto is CUDA where there is one.

    Raises UnavailableError if it is not there, UsageError for another name.
    """
    import torch

    kind, _, number = name.partition(":")
    if name == "auto":
        return _exact(torch.device("cuda")) if torch.cuda.is_available() else torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (":" in name and not number.isdecimal()):
        raise UsageError(f"device {name!r}: not known", "allowed: auto, cpu, cuda, cuda:N")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= found:
        there = f"only {found} of them" if found else "no CUDA device"
        raise UnavailableError(f"device {name}: this machine has {there}", "--device cpu works everywhere")
    return _exact(torch.device(name))


def _exact(device: "torch.device") -> "torch.device":
    """No TF32: results that say float32 are float32, the patch convolution's too."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return device


def describe(device: "torch.device") -> dict[str, Any]:
    """What a measurement on `device` depends on: kind, name, memory, and on CPU the threads."""
    import torch

    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {
            "device": str(device),
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
        }
    return {"device": "cpu", "name": cpu_name(), "threads": torch.get_num_threads(), "cpus": cpus()}


def device_name(described: dict[str, Any]) -> str:
    """What `describe` told in one line that tells machines apart: "cpu: AMD EPYC 7B13"."""
    return f"{str(described['device']).partition(':')[0]}: {described['name']}"


def devices() -> list[dict[str, Any]]:
    """Every device that `resolve` accepts, described."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = ["cpu", *(f"cuda:{i}" for i in range(count))]
    return [describe(torch.device(name)) for name in names]


def set_threads(threads: int | None) -> int:
    """Let torch use `threads` threads (None: torch's own choice); returns the number in use."""
    import torch

    if threads is None and "OMP_NUM_THREADS" not in os.environ:
        # torch knows the affinity mask but no container's quota: threads beyond that only wait.
        threads = min(torch.get_num_threads(), cpus())
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def suggested_threads(flops_per_sample: float) -> int | None:
    """One thread for small models, torch's own choice (None) for others.

    Operations of microseconds lose more to handing work over than a second thread gains: at 8 MFLOPs a
    sample two threads were 4 times slower than one on a busy 2-core machine.
    """
    return 1 if flops_per_sample < SMALL_MODEL_FLOPS else None


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.processor() or platform.machine())


def peak_memory_bytes() -> int:
    """The most main memory this process has held so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
