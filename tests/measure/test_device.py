"""The machine's description, and the device a name stands for."""

import tomllib
from pathlib import Path

import pytest
import torch

from adapcli.errors import UnavailableError, UsageError
from adapcli.limits import memory_bytes
from adapcli.measure import device

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_the_packages_told_are_the_packages_needed():
    needed = [requirement.partition(">")[0] for requirement in PROJECT["dependencies"]]
    assert sorted(needed) == sorted(device.PACKAGES)
    assert set(PROJECT["optional-dependencies"]) - {"dev"} == set(device.EXTRAS)


def test_every_package_needed_is_installed_and_another_is_not():
    assert None not in device.versions().values()
    assert device.version("no-such-package-anywhere") is None


def test_cpu_is_always_there():
    assert device.resolve("cpu") == torch.device("cpu")
    assert device.resolve("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_that_is_not_there(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnavailableError, match=f"device {name}: this machine has no CUDA device"):
        device.resolve(name)


def test_more_cuda_devices_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device.resolve("cuda:1") == torch.device("cuda:1")
    assert device.resolve("auto") == device.resolve("cuda") == torch.device("cuda")
    with pytest.raises(UnavailableError, match="this machine has only 2 of them"):
        device.resolve("cuda:2")


@pytest.mark.parametrize("name", ["cudaa", "", "cuda:", "cuda:x", "cuda:-1", "mps"])
def test_a_name_that_means_nothing(name):
    with pytest.raises(UsageError, match="not known"):
        device.resolve(name)


def test_a_description_tells_what_measurements_depend_on():
    before = torch.get_num_threads()
    try:
        assert device.set_threads(1) == device.set_threads(None) == 1
        found = device.describe(torch.device("cpu"))
        assert (found["threads"], found["cpus"]) == (1, device.cpus())
        assert found["name"]
        assert device.devices()[0] == found
    finally:
        torch.set_num_threads(before)


def test_torch_gets_no_more_threads_than_a_container_grants(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(device, "cpus", lambda: 2)
    try:
        torch.set_num_threads(3)
        assert device.set_threads(None) == 2
        assert device.set_threads(3) == 3  # asked for
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert device.set_threads(None) == 3
    finally:
        torch.set_num_threads(before)


def test_memory_is_plausible():
    assert 0 < device.peak_memory_bytes() < memory_bytes()


def test_small_models_get_one_thread_and_large_ones_torchs_choice():
    assert device.suggested_threads(8e6) == 1
    assert device.suggested_threads(76e9) is None
