"""Checkpoints that are no checkpoints, or not to be trusted, as `adap info` and `adap sweep` meet them."""

import base64
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import adapcli

pytestmark = pytest.mark.parametrize("command", ["info", "sweep"])


class Payload:
    """Runs when it is unpickled: makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.fixture
def folder(make_model, tmp_path):
    """A checkpoint as a folder, to be damaged."""
    adapcli.save(make_model(), tmp_path / "m")
    return tmp_path / "m"


def change_weights(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def change_config(folder, change):
    header = json.loads((folder / "config.json").read_text())
    change(header)
    (folder / "config.json").write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("no.pt", None, "no such file"),
        ("empty.pt", b"", "empty"),
        ("text.pt", b"weights", "not a checkpoint"),
        ("picture.pt", b"\x89PNG\r\n", "not a checkpoint"),
        ("empty.safetensors", b"", "empty"),
        ("text.safetensors", b"weights and more", "config.json missing"),
    ],
)
def test_files_of_another_kind(adap, tmp_path, command, name, content, told):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    adap(command, "--ckpt", name).refused(3, name, told)
    assert not (tmp_path / "adap-run").exists()


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_a_file_that_was_cut_short(adap, tmp_path, checkpoint, folder, command, part):
    whole = checkpoint.read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: int(part * len(whole))])
    adap(command, "--ckpt", "cut.pt").refused(3, "cut.pt: not a usable torch checkpoint, or cut short")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: int(part * weights.stat().st_size)])
    adap(command, "--ckpt", "m").refused(3, "model.safetensors: not a usable safetensors file")


def with_payload(path, kind, mark, model):
    if kind == "in a state_dict":
        torch.save({**model.state_dict(), "more": Payload(mark)}, path)
    elif kind == "a whole module":
        torch.save(model, path)
    elif kind == "a bare pickle":
        path.write_bytes(pickle.dumps(Payload(mark)))
    else:  # as stable-baselines3 stores a policy
        code = base64.b64encode(pickle.dumps(Payload(mark))).decode()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data", json.dumps({"policy_class": {":serialized:": code}}))
            archive.writestr("policy.pth", pickle.dumps(Payload(mark)))


@pytest.mark.parametrize("kind", ["in a state_dict", "a whole module", "a bare pickle"])
def test_python_objects_are_refused_and_nothing_is_run(adap, tmp_path, make_model, command, kind):
    with_payload(tmp_path / "p.pt", kind, tmp_path / "ran", make_model())
    ended = adap(command, "--ckpt", "p.pt")
    ended.refused(3, "p.pt: refused: it holds Python objects", "nothing was run", "hint: save a state_dict")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["ppo.zip", "ppo.pt"])
def test_a_zip_of_stable_baselines_is_no_checkpoint(adap, tmp_path, make_model, command, name):
    with_payload(tmp_path / name, "a policy", tmp_path / "ran", make_model())
    adap(command, "--ckpt", name).refused(3, name)
    assert not (tmp_path / "ran").exists()


def test_weights_without_a_config(adap, folder, command):
    (folder / "config.json").unlink()
    adap(command, "--ckpt", "m/model.safetensors").refused(3, "config.json missing next to it")
    adap(command, "--ckpt", "m").refused(3, "m: config.json missing")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no json", "not usable JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": NaN}', "NaN is not JSON"),
        ("[]", "expected an object"),
        ('{"depth": "21"}', "depth '21': Input should be a valid integer"),
        ('{"depth": 1000000000}', "depth 1000000000: Input should be less than or equal to 1000"),
        ('{"dephts": 21}', "dephts: unknown key"),
    ],
)
def test_a_config_that_is_wrong(adap, folder, command, text, told):
    (folder / "config.json").write_text(text)
    adap(command, "--ckpt", "m").refused(3, "m/config.json", told)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("depth", "21", "depth '21': Input should be a valid integer"),
        ("depth", 10**9, "depth 1000000000: Input should be less than or equal to 1000"),
        ("embed_dim", float("1e999"), "not usable JSON"),
        ("dephts", 3, "dephts 3: unknown key"),
        ("widths", [16, 8], "widths [16, 8]: not ascending"),
        ("num_classes", None, "num_classes: needed for classification"),
    ],
)
def test_our_own_config_with_a_wrong_field(adap, folder, command, field, value, told):
    change_config(folder, lambda header: header["config"].update({field: value}))
    adap(command, "--ckpt", "m").refused(3, "m/config.json", told)


def reshape(state):
    for name in sorted(state)[:7]:
        state[name] = torch.zeros(1, 2, 3)


MANY = ("read_head.query.weight", "x1", "x2", "x3", "x4", "x5", "x6")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: [state.pop(name) for name in sorted(state)[:7]], "7 tensors missing: "),
        (lambda state: state.update({name: torch.zeros(2) for name in MANY}), "7 tensors unknown: "),
        (reshape, "7 tensors of the wrong shape: "),
    ],
)
def test_other_tensors_are_counted_and_five_named(adap, folder, command, change, told):
    change_weights(folder, change)
    line = adap(command, "--ckpt", "m").refused(3, told)
    assert line.partition(told)[2].count(",") == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(adap, folder, command, value):
    change_weights(folder, lambda state: state["output_latents.token"].view(-1)[3].fill_(value))
    adap(command, "--ckpt", "m").refused(3, "output_latents.token holds NaN or infinite values")


def test_an_empty_path_is_not_the_packaged_checkpoint(adap, command):
    adap(command, "--ckpt", "").refused(3, "config.json missing")


def test_a_hub_without_the_extra(adap, command, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    adap(command, "--ckpt", "hf://owner/name").refused(4, "pip install 'adapcli[hub]'")
