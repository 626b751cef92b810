"""Saving, loading, and the forms a checkpoint may have."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import adapcli
from adapcli.errors import AdapError, FileError, UnavailableError, UsageError
from adapcli.model.config import ModelConfig
from adapcli.model.preprocessing import Preprocessing

GOLDEN = Path(__file__).parent.parent / "golden"
TASKS = ["classification", "features", "distillation", "segmentation", "depth"]


@pytest.fixture
def model(make_model):
    built = make_model()
    built.class_names = ("one", "zwei", "三", "", "[red]")
    built.preprocessing = Preprocessing(12, 14, (0.25,), (0.5,), "bicubic")
    yield built
    built.class_names, built.preprocessing = (), Preprocessing.published(12, 1)


def saved(model, path):
    adapcli.save(model, path)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Round trips


@pytest.mark.parametrize("name", ["folder", "file.pt", "new/deep/folder", "new/deep/file.pt"])
def test_what_is_saved_is_what_is_loaded(model, images, tmp_path, name):
    loaded = adapcli.load(saved(model, tmp_path / name))
    assert loaded.config == model.config
    assert loaded.class_names == model.class_names
    assert loaded.preprocessing == model.preprocessing
    assert loaded.full_configuration == model.full_configuration
    assert torch.equal(loaded(images).logits, model(images).logits)
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)


@pytest.mark.parametrize("name", ["folder", "file.pt"])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_round_trips(make_model, tmp_path, task, name):
    model = make_model(task=task, ffn="swiglu", mask="causal", use_output_ffn=True, qkv_bias=False)
    loaded = adapcli.load(saved(model, tmp_path / name))
    assert loaded.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("name", ["folder", "file.pt"])
def test_a_loaded_model_is_ready_to_run_and_to_train(model, tmp_path, name):
    loaded = adapcli.load(str(saved(model, tmp_path / name)))
    assert not loaded.training
    parameters = list(loaded.parameters())
    assert all(p.requires_grad and p.is_leaf and p.dtype == torch.float32 for p in parameters)
    assert len({p.untyped_storage().data_ptr() for p in parameters}) == len(parameters)
    assert all(p.untyped_storage().nbytes() == 4 * p.numel() for p in parameters)


@pytest.mark.parametrize("name", ["folder", "file.pt"])
def test_a_loaded_model_does_not_hang_on_its_file(model, images, tmp_path, name):
    path = saved(model, tmp_path / name)
    loaded = adapcli.load(path)
    before = loaded(images).logits
    target = path / "model.safetensors" if path.is_dir() else path
    with target.open("r+b") as file:
        file.write(bytes(target.stat().st_size))
    assert torch.equal(loaded(images).logits, before)


def test_half_precision_comes_back_as_float32(make_model, images, tmp_path):
    import copy

    half = copy.deepcopy(make_model()).bfloat16()
    loaded = adapcli.load(saved(half, tmp_path / "half.pt"))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.blocks[0].ffn.fc1.weight, half.blocks[0].ffn.fc1.weight.float())


def test_saving_twice_gives_the_same_bytes(model, tmp_path):
    one, two = saved(model, tmp_path / "one"), saved(model, tmp_path / "two")
    for name in names(one):
        assert (one / name).read_bytes() == (two / name).read_bytes()


# Atomic, and careful with what is there


@pytest.mark.parametrize("name", ["folder", "file.pt"])
def test_a_checkpoint_is_replaced(make_model, images, tmp_path, name):
    old, new = make_model(0), make_model(1)
    saved(old, tmp_path / name)
    loaded = adapcli.load(saved(new, tmp_path / name))
    assert torch.equal(loaded(images).logits, new(images).logits)
    assert names(tmp_path) == [name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["folder", "file.pt"])
def test_a_process_killed_while_saving_leaves_the_old_checkpoint(model, images, tmp_path, name):
    saved(model, tmp_path / name)
    code = """
        import os, signal, sys
        import adapcli
        model = adapcli.load(sys.argv[1])
        model.output_adapter.ffn.weight.data += 1
        written = 0
        def last_flush(_):
            global written
            written += 1
            if written == (1 if sys.argv[1].endswith(".pt") else 2):
                os.kill(os.getpid(), signal.SIGKILL)
        os.fsync = last_flush
        adapcli.save(model, sys.argv[1])
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / name)]
    told = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert told.returncode == -signal.SIGKILL, told.stderr
    assert torch.equal(adapcli.load(tmp_path / name)(images).logits, model(images).logits)


def test_a_folder_with_other_files_is_not_replaced(model, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years")
    with pytest.raises(UsageError, match=r"holds other files: thesis\.tex"):
        adapcli.save(model, folder)
    assert names(folder) == ["thesis.tex"]
    (tmp_path / "empty").mkdir()
    adapcli.save(model, tmp_path / "empty")
    assert names(tmp_path / "empty") == ["config.json", "model.safetensors"]


def test_places_that_cannot_be_saved_to(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        adapcli.save(model, tmp_path / "file")
    (tmp_path / "folder.pt").mkdir()
    for path in ("folder.pt", "file/below", "file/below.pt"):
        with pytest.raises(AdapError):
            adapcli.save(model, tmp_path / path)
    assert names(tmp_path) == ["file", "folder.pt"]


# Forms


def test_a_published_folder_and_its_bare_weights():
    folder = GOLDEN / "cls_mlp"
    published = json.loads((folder / "config.json").read_text())
    x = load_file(folder / "expected.safetensors")["x"]
    expected = adapcli.load(folder)(x).logits
    weights = folder / "model.safetensors"
    for model in (
        adapcli.load(weights),  # config.json lies beside it
        adapcli.load(weights, model_config=published),
        adapcli.load(weights, model_config=ModelConfig.from_published(published)),
        adapcli.load(folder, model_config=published),
    ):
        assert torch.equal(model(x).logits, expected)


def test_weights_without_a_config_need_one(tmp_path, model):
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    with pytest.raises(FileError, match=r"config\.json missing next to it"):
        adapcli.load(tmp_path / "m.safetensors")
    assert adapcli.load(tmp_path / "m.safetensors", model_config=model.config).config == model.config


def test_a_training_scripts_file_needs_a_config():
    path = GOLDEN / "training_pt" / "checkpoint.pt"
    with pytest.raises(FileError, match="holds no config") as caught:
        adapcli.load(path)
    assert "model_config=" in caught.value.hint


@pytest.mark.parametrize("inner", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize(
    "prefix", ["", "module._orig_mod.", "backbone.", "model.", "ema.module.", "_fsdp_wrapped_module.model."]
)
def test_wrappers_of_training_scripts_are_undone(model, images, tmp_path, inner, prefix):
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    state[prefix + "patch_embed.pos_embed"] = state[prefix + "patch_embed.pos_embed"][0]
    if inner is None:
        state["n_averaged"] = torch.tensor(7)
    optimiser = {
        "state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(4.0)}},
        "param_groups": [{"lr": 0.1}],
    }
    content = state if inner is None else {inner: state, "epoch": 3, "loss": 0.5, "optimizer": optimiser}
    torch.save(content, tmp_path / "t.pt")
    loaded = adapcli.load(tmp_path / "t.pt", model_config=model.config)
    assert torch.equal(loaded(images).logits, model(images).logits)


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrappers_of_single_blocks_are_undone(model, images, tmp_path, wrapper):
    state = {
        re.sub(r"^(blocks\.\d+)\.", rf"\1.{wrapper}.", name): tensor
        for name, tensor in model.state_dict().items()
    }
    torch.save({"state_dict": state}, tmp_path / "t.pt")
    loaded = adapcli.load(tmp_path / "t.pt", model_config=model.config)
    assert torch.equal(loaded(images).logits, model(images).logits)


def two_sets(model, path):
    """timm's training checkpoint: weights and their moving average; here the average is what `model` has."""
    averaged = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    raw = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    torch.save({"config": model.config.to_dict(), "state_dict": raw, "state_dict_ema": averaged}, path)


def test_of_several_sets_of_weights_a_key_names_one(model, images, tmp_path):
    two_sets(model, tmp_path / "t.pth")
    with pytest.raises(FileError, match="several sets of weights: state_dict, state_dict_ema") as caught:
        adapcli.load(tmp_path / "t.pth")
    assert caught.value.hint.endswith(f"{tmp_path}/t.pth#state_dict_ema")
    loaded = adapcli.load(f"{tmp_path}/t.pth#state_dict_ema")
    assert torch.equal(loaded(images).logits, model(images).logits)
    assert not torch.equal(adapcli.load(f"{tmp_path}/t.pth#state_dict")(images).logits, loaded(images).logits)
    with pytest.raises(FileError, match="several sets of weights"):
        adapcli.load(f"{tmp_path}/t.pth#absent")


def test_of_several_models_in_one_state_a_key_names_one(model, images, tmp_path):
    """A Lightning module that holds a model, its teacher's head and a loss with weights."""
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state | {"loss.weight": torch.ones(3)}}, tmp_path / "t.ckpt")
    with pytest.raises(FileError, match=r"1 tensors unknown: loss\.weight") as caught:
        adapcli.load(tmp_path / "t.ckpt", model.config)
    assert caught.value.hint == f"name the one to load: {tmp_path}/t.ckpt#model"
    loaded = adapcli.load(f"{tmp_path}/t.ckpt#model", model.config)
    assert torch.equal(loaded(images).logits, model(images).logits)


def sharded(model, folder, ending="safetensors"):
    """As the hub's tools write a model of two shards; the index, to be changed and written again."""
    adapcli.save(model, folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem, write = ("model", save_file) if ending == "safetensors" else ("pytorch_model", torch.save)
    places = {}
    for i in range(2):
        part = dict(list(state.items())[i::2])
        name = f"{stem}-0000{i + 1}-of-00002.{ending}"
        write(part, folder / name)
        places |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps(index))
    return index


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_shards_with_an_index_equal_the_whole(model, images, tmp_path, ending):
    sharded(model, tmp_path / "m", ending)
    assert torch.equal(adapcli.load(tmp_path / "m")(images).logits, model(images).logits)


def test_weights_only_bin_beside_a_config_equals_the_whole(model, images, tmp_path):
    adapcli.save(model, tmp_path / "m")
    torch.save(load_file(tmp_path / "m/model.safetensors"), tmp_path / "m/pytorch_model.bin")
    (tmp_path / "m/model.safetensors").unlink()
    for place in ("m", "m/pytorch_model.bin"):
        assert torch.equal(adapcli.load(tmp_path / place)(images).logits, model(images).logits)


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
TOKEN = "process_latents.token"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, i: (f / SECOND).unlink(), f"shard {SECOND} missing"),
        (lambda f, i: i["weight_map"].update({TOKEN: f"../m/{FIRST}"}), "not the name of a file in this"),
        (lambda f, i: i["weight_map"].update({TOKEN: str(f / FIRST)}), "not the name of a file in this"),
        (lambda f, i: i["weight_map"].update({TOKEN: ".."}), "not the name of a file in this"),
        (lambda f, i: i["weight_map"].update({TOKEN: 3}), "expected a weight_map"),
        (lambda f, i: i.pop("weight_map"), "expected a weight_map"),
        (lambda f, i: i["weight_map"].pop(TOKEN), "1 tensors not in the index"),
        (lambda f, i: i["weight_map"].update({"more": FIRST}), "1 tensors missing: more"),
        (lambda f, i: shutil.copy(f / FIRST, f / SECOND), "tensors missing"),
        (lambda f, i: (f / SECOND).write_bytes(b"damaged"), "not a usable safetensors file"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(model, tmp_path, change, message):
    index = sharded(model, tmp_path / "m")
    change(tmp_path / "m", index)
    (tmp_path / "m/model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileError, match=message):
        adapcli.load(tmp_path / "m")


def test_a_tensor_named_twice_in_an_index_is_refused(model, tmp_path):
    sharded(model, tmp_path / "m")
    path = tmp_path / "m/model.safetensors.index.json"
    path.write_text(path.read_text().replace('_map": {', f'_map": {{"{TOKEN}": "{SECOND}", ', 1))
    with pytest.raises(FileError, match=f"key '{TOKEN}' is given twice"):
        adapcli.load(tmp_path / "m")


def test_parameters_and_a_module_state_dict_are_taken(model, images, tmp_path):
    torch.save(dict(model.named_parameters()), tmp_path / "p.pt")
    torch.save({"config": model.config.to_dict(), "state_dict": model.state_dict()}, tmp_path / "s.pt")
    assert torch.equal(adapcli.load(tmp_path / "p.pt", model.config)(images).logits, model(images).logits)
    assert torch.equal(adapcli.load(tmp_path / "s.pt")(images).logits, model(images).logits)


def test_a_pt_with_a_published_config_inside(tmp_path, images):
    folder = GOLDEN / "cls_mlp"
    content = {
        "config": json.loads((folder / "config.json").read_text()),
        "state_dict": load_file(folder / "model.safetensors"),
    }
    torch.save(content, tmp_path / "m.pt")
    assert adapcli.load(tmp_path / "m.pt").config == adapcli.load(folder).config


def test_two_tensors_of_one_name_are_refused(model, tmp_path):
    state = dict(model.state_dict())
    state["module.process_latents.token"] = torch.zeros(24)
    torch.save(state, tmp_path / "t.pt")
    with pytest.raises(FileError, match=r"process_latents\.token: given twice"):
        adapcli.load(tmp_path / "t.pt", model_config=model.config)


# Wrong tensors


def changed(model, folder, change):
    adapcli.save(model, folder)
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    return folder


def fill(value, name="blocks.1.ffn.fc2.weight", dtype=torch.float32):
    def change(state):
        state[name] = state[name].to(dtype)
        state[name].view(-1)[3] = value

    return change


WRONG = {
    "missing": (lambda s: [s.pop(n) for n in list(s)[:7]], "7 tensors missing: blocks.0"),
    "extra": (
        lambda s: s.update({f"extra.{i}": torch.zeros(2) for i in range(6)}),
        "6 tensors unknown: extra.0",
    ),
    "shape": (
        lambda s: s.update({"blocks.0.norm1.weight": torch.ones(23)}),
        "1 tensors of the wrong shape: blocks.0.norm1.weight",
    ),
    "nan": (fill(float("nan")), "blocks.1.ffn.fc2.weight holds NaN or infinite"),
    "inf": (fill(float("-inf")), "blocks.1.ffn.fc2.weight holds NaN or infinite"),
    "beyond float32": (fill(1e300, dtype=torch.float64), "blocks.1.ffn.fc2.weight holds NaN or infinite"),
    "half nan": (fill(float("nan"), dtype=torch.float16), "holds NaN or infinite"),
    "integers": (fill(1, dtype=torch.int32), "blocks.1.ffn.fc2.weight holds int32"),
    "booleans": (fill(True, dtype=torch.bool), "holds bool"),
    "no tensors": (lambda s: s.clear(), "0 tensors for 3 blocks: tensors missing"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_wrong_tensors_are_named(model, tmp_path, change, message):
    with pytest.raises(FileError, match=message) as caught:
        adapcli.load(changed(model, tmp_path / "m", change))
    assert str(tmp_path / "m") in caught.value.message
    assert caught.value.message.count("extra.") in (0, 5)  # the first five, and the count


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_read_as_float32(model, tmp_path, dtype):
    folder = changed(model, tmp_path / "m", lambda s: s.update({k: v.to(dtype) for k, v in s.items()}))
    assert {p.dtype for p in adapcli.load(folder).parameters()} == {torch.float32}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("asked", TASKS)
def test_weights_of_another_task_are_refused_telling_which(make_model, make_config, tmp_path, task, asked):
    path = saved(make_model(task=task), tmp_path / "m.pt")
    if task == asked:
        assert adapcli.load(path, model_config=make_config(task=asked)).config.task == task
        return
    with pytest.raises(FileError) as caught:
        adapcli.load(path, model_config=make_config(task=asked))
    assert caught.value.hint == f"these weights look like a {task} model"


TINY = {"size": 1, "resize": 1, "mean": [0.2], "std": [0.4], "interpolation": "bilinear"}


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ({"class_names": ["a"]}, "1 names for 5 classes"),
        ({"class_names": "abcde"}, "expected a list of texts"),
        ({"class_names": [1, 2, 3, 4, 5]}, "expected a list of texts"),
        ({"class_names": {"a": 1}}, "expected a list of texts"),
        ({"preprocessing": None}, "preprocessing: expected an object"),
        ({"preprocessing": {"size": 12}}, "preprocessing: expected the fields"),
        ({"preprocessing": TINY}, "preprocessing: size 1: smaller than one patch"),
        ({"format": "adapcli-2"}, "its format is not adapcli-1"),
        ({"format": None}, "its format is not adapcli-1"),
        ({"config": None}, "holds no config"),
        ({"config": {"depth": 2}}, "num_classes: needed"),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["folder", "m.pt"])
def test_wrong_extras_are_refused(model, tmp_path, extras, message, form):
    path = saved(model, tmp_path / form)
    if form == "folder":
        header = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(header | extras))
    else:
        torch.save(torch.load(path, weights_only=True) | extras, path)
    with pytest.raises(FileError, match=message) as caught:
        adapcli.load(path)
    assert str(path) in caught.value.message


# Places


@pytest.mark.parametrize("name", ["absent", "absent.pt", "a/b/c", "x" * 5000, "\0", "nul\0byte"], ids=ascii)
def test_what_does_not_exist_is_one_line(tmp_path, name):
    with pytest.raises(FileError, match="no such file or folder"):
        adapcli.load(f"{tmp_path}/{name}")


def test_a_folder_without_a_checkpoint(model, tmp_path):
    with pytest.raises(FileError, match=r"config\.json missing in this folder"):
        adapcli.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileError, match=r"model\.safetensors missing in this folder"):
        adapcli.load(tmp_path)


@pytest.mark.parametrize("name", ["with space", "[red]", "ünï", "caf\udce9", "new\nline"], ids=ascii)
@pytest.mark.parametrize("suffix", ["", ".pt"])
def test_any_path_can_be_saved_and_loaded(model, images, tmp_path, name, suffix):
    loaded = adapcli.load(saved(model, tmp_path / (name + suffix)))
    assert torch.equal(loaded(images).logits, model(images).logits)


# The hub


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for huggingface_hub: `calls` records, `answer` is returned or raised."""
    module, errors = types.ModuleType("huggingface_hub"), types.ModuleType("huggingface_hub.errors")

    class HFValidationError(ValueError):
        pass

    def snapshot_download(repo_id, *, revision=None, allow_patterns=None):
        module.calls.append((repo_id, revision, allow_patterns))
        if isinstance(module.answer, Exception):
            raise module.answer
        return str(module.answer)

    module.calls, module.answer, module.snapshot_download = [], None, snapshot_download
    errors.HFValidationError = HFValidationError
    monkeypatch.setattr("adapcli.model.checkpoint.prefer_cache_when_offline", lambda: False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return module


def test_without_the_extra_a_hub_name_tells_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UnavailableError, match="hub extra") as caught:
        adapcli.load("hf://owner/name")
    assert caught.value.hint == "pip install 'adapcli[hub]'"
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("name", "revision"), [("hf://o/n", None), ("hf://o/n@v1", "v1"), ("hf://o/n@", None)]
)
def test_a_hub_name_loads_config_and_weights_and_nothing_else(hub, name, revision):
    hub.answer = GOLDEN / "cls_mlp"
    assert adapcli.load(name).config.embed_dim == 64
    ((place, asked, patterns),) = hub.calls
    assert (place, asked) == ("o/n", revision)
    assert all(pattern == "config.json" or "safetensors" in pattern for pattern in patterns)


def test_what_comes_from_the_hub_is_trusted_no_more_than_a_file(hub, tmp_path):
    hub.answer = tmp_path
    (tmp_path / "config.json").write_text('{"depth": 1e999}')
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(FileError):
        adapcli.load("hf://o/n")


def test_a_hub_that_cannot_be_reached_is_unavailable(hub):
    for error in (
        OSError("offline\nsecond line"),
        RuntimeError("proxy"),
        ValueError("odd"),
        ConnectionError(),
    ):
        hub.answer = error
        with pytest.raises(UnavailableError, match="hf://o/n: cannot be fetched") as caught:
            adapcli.load("hf://o/n")
        assert "\n" not in caught.value.message


def test_a_name_the_hub_cannot_have_is_refused(hub):
    hub.answer = sys.modules["huggingface_hub.errors"].HFValidationError("bad")
    with pytest.raises(FileError, match="not a hub name"):
        adapcli.load("hf://../../etc")


def test_the_packaged_checkpoint_lies_inside_the_package():
    assert adapcli.packaged().is_relative_to(Path(adapcli.__file__).parent)
    assert os.fspath(adapcli.packaged()).endswith("digits.pt")
