"""Teachers of other libraries, by stand-ins where these are not installed, and folders not to be trusted."""

import json
import os
import sys
import time
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from adapcli.errors import AdapError, FileError, UnavailableError, UsageError
from adapcli.model.hub import prefer_cache_when_offline
from adapcli.training import backbones
from adapcli.training.backbones import as_map, load_hf, load_timm

CPU = torch.device("cpu")


class Standing(nn.Module):
    """What timm's vision transformers offer: one token before the patches, features, then logits."""

    num_classes, num_features, num_prefix_tokens = 7, 6, 1

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, 4)
        self.head = nn.Linear(6, 7)
        self.drop = nn.Dropout(0.5)

    def forward_features(self, x):
        assert not self.training
        tokens = self.drop(self.patches(x).flatten(2).transpose(1, 2))
        return torch.cat([tokens.mean(1, keepdim=True), tokens], 1)

    def forward_head(self, tokens):
        return self.head(tokens[:, 0])


@pytest.fixture
def timm(monkeypatch):
    """A stand-in for the library: what it was asked for is in `asked`."""
    module = types.ModuleType("timm")
    module.asked = []
    module.is_model = lambda name: name.partition(".")[0] == "vit_tiny"
    module.list_models = lambda: ["vit_tiny", "resnet50"]

    def create_model(name, pretrained, num_classes=7):
        module.asked.append((name, pretrained))
        assert num_classes == 7
        torch.manual_seed(0)
        return Standing().train()

    known = {"input_size": (3, 16, 16), "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.25,) * 3}
    module.create_model = create_model
    module.data = types.SimpleNamespace(resolve_model_data_config=lambda network: known)
    monkeypatch.setitem(sys.modules, "timm", module)
    monkeypatch.setattr(backbones, "prefer_cache_when_offline", lambda: False)
    return module


def test_a_model_of_timm_answers_both_in_one_pass(timm):
    teacher = load_timm("vit_tiny.in1k", CPU)
    assert timm.asked == [("vit_tiny.in1k", True)]
    assert (teacher.classes, teacher.feature_dim) == (7, 6)
    assert teacher.preprocessing.size == 16
    assert teacher.preprocessing.interpolation == "bicubic"
    images = torch.randn(2, 3, 16, 16)
    logits, features = teacher.answer(images)
    torch.manual_seed(0)
    direct = Standing().eval()
    assert torch.equal(logits, direct.forward_head(direct.forward_features(images)))
    assert torch.equal(features, direct.patches(images))
    assert not logits.requires_grad


def test_it_teaches_grey_images_of_another_size(timm, make_model):
    from adapcli.training.schema import Recipe
    from adapcli.training.teacher import open_teacher

    student = make_model(task="distillation", output_feat_dim=6, image_size=16, patch_size=8)
    stages = [{"name": "all", "steps": 1}]
    loss = {"distillation": 1, "features": 1}
    values = {"name": "x", "model": {"depth": 3}, "stages": stages, "loss": loss}
    recipe = Recipe(**values, teacher={"source": "timm:vit_tiny"})
    images = torch.randn(2, 1, 16, 16)
    answer = open_teacher(recipe, student, lambda: student)(images)
    shown = ((images * 0.4 + 0.2).expand(-1, 3, -1, -1) - 0.5) / 0.25
    logits, _ = load_timm("vit_tiny", CPU).answer(shown)
    torch.testing.assert_close(answer.logits, logits)
    assert answer.features.shape == (2, 4, 6)


def test_a_misspelt_name_gets_a_suggestion(timm):
    with pytest.raises(UsageError, match="not known") as caught:
        load_timm("vit_tinny", CPU)
    assert caught.value.hint == "did you mean 'vit_tiny'?"


@pytest.mark.parametrize("name", ["hf-hub:someone/vit_tiny", "local-dir:/tmp/x", "someone/vit_tiny"])
def test_a_strangers_configuration_is_not_asked_for(timm, name):
    with pytest.raises(UsageError, match="not known"):
        load_timm(name, CPU)
    assert timm.asked == []


def test_weights_that_cannot_be_had_are_one_line(timm):
    def offline(name, pretrained):
        raise OSError("no network\nand more")

    timm.create_model = offline
    with pytest.raises(UnavailableError, match=r"timm:vit_tiny: cannot be had: no network$"):
        load_timm("vit_tiny", CPU)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UnavailableError) as caught:
        load_timm("vit_tiny", CPU)
    assert "adapcli[timm]" in caught.value.hint


@pytest.fixture
def weights(tmp_path):
    """Other weights than timm's stand-in starts with, saved in each way; and what they answer."""
    torch.manual_seed(7)
    network = Standing().eval()
    state = network.state_dict()
    save_file(state, tmp_path / "model.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "m.pth")
    torch.save(state, tmp_path / "pytorch_model.bin")
    return tmp_path, network


@pytest.mark.parametrize("file", ["model.safetensors", "m.pth", "pytorch_model.bin"])
def test_weights_in_a_file_are_read_and_nothing_is_asked_for(timm, weights, file):
    folder, network = weights
    teacher = load_timm(f"vit_tiny@{folder / file}", CPU)
    images = torch.randn(2, 3, 16, 16)
    assert timm.asked == [("vit_tiny", False)]
    assert torch.equal(teacher.answer(images)[0], network.forward_head(network.forward_features(images)))


def test_weights_that_do_not_fit_or_are_not_there_are_named(timm, tmp_path):
    save_file({"other": torch.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(FileError, match="do not fit the model: Missing key"):
        load_timm(f"vit_tiny@{tmp_path}/w.safetensors", CPU)
    with pytest.raises(FileError, match="absent: no such file"):
        load_timm("vit_tiny@absent", CPU)


DATA = {"input_size": [3, 16, 16], "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.25] * 3}
SAVED_BY_TIMM = {"architecture": "vit_tiny", "num_classes": 7, "num_features": 6, "pretrained_cfg": DATA}


def test_a_folder_as_timm_saves_it_teaches(timm, weights):
    folder, network = weights
    (folder / "config.json").write_text(json.dumps(SAVED_BY_TIMM))
    teacher = load_hf(str(folder), CPU)
    images = torch.randn(2, 3, 16, 16)
    assert (teacher.preprocessing.size, teacher.preprocessing.std) == (16, (0.25,) * 3)
    assert torch.equal(teacher.answer(images)[0], network.forward_head(network.forward_features(images)))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"architecture": "hf-hub:someone/x"}, UsageError, "not known"),
        ({"architecture": 3}, FileError, "not what timm saves"),
        ({"model_args": {"checkpoint_path": "/tmp/x"}}, FileError, "not what timm saves"),
        ({"model_args": {"act_layer": {}}}, FileError, "not what timm saves"),
        ({"model_args": {"absent": 1}}, FileError, "timm cannot make vit_tiny"),
        ({"pretrained_cfg": {}}, FileError, "pretrained_cfg: not usable"),
        ({"pretrained_cfg": DATA | {"std": [0] * 3}}, FileError, "pretrained_cfg: not usable"),
    ],
)
def test_a_folder_that_timm_would_not_save_is_refused(timm, weights, changed, error, message):
    (weights[0] / "config.json").write_text(json.dumps(SAVED_BY_TIMM | changed))
    with pytest.raises(error, match=message):
        load_hf(str(weights[0]), CPU)


def test_offline_is_found_out_in_seconds_and_the_cache_alone_is_asked(monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "huggingface_hub.constants", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert prefer_cache_when_offline()
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    os.environ["HF_HUB_OFFLINE"] = "0"

    def hanging(*_: object, **__: object) -> None:
        time.sleep(60)
        raise OSError("no answer")

    monkeypatch.setattr("socket.getaddrinfo", hanging)
    monkeypatch.setattr("adapcli.model.hub.PATIENCE_S", 0.2)
    started = time.monotonic()
    assert prefer_cache_when_offline()
    assert time.monotonic() - started < 5


def test_without_the_hub_the_way_to_name_a_file_is_told(timm, monkeypatch):
    def offline(name, pretrained):
        raise OSError("retries exceeded")

    timm.create_model = offline
    monkeypatch.setattr(backbones, "prefer_cache_when_offline", lambda: True)
    with pytest.raises(UnavailableError, match="the hub cannot be reached") as caught:
        load_timm("vit_tiny", CPU)
    assert caught.value.hint == "weights in a file: timm:vit_tiny@FILE"


def test_patches_are_found_however_they_are_laid_out():
    image = torch.randn(2, 5, 3, 3)
    tokens = image.flatten(2).transpose(1, 2)
    first = torch.randn(2, 2, 5)
    assert torch.equal(as_map(image, 0, 5), image)
    assert torch.equal(as_map(image.permute(0, 2, 3, 1), 0, 5), image)
    assert torch.equal(as_map(tokens, 0, 5), image)
    assert torch.equal(as_map(torch.cat([first, tokens], 1), 2, 5), image)
    assert torch.equal(as_map(torch.cat([first, tokens], 1), None, 5), image)
    assert as_map(torch.randn(2, 5), 0, 5) is None
    with pytest.raises(AdapError, match="10 patches are no square"):
        as_map(torch.randn(2, 10, 5), 0, 5)


CONFIG = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "image_size": 16}
PICTURES = {
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "size": {"height": 16, "width": 16},
    "resample": 2,
}


@pytest.fixture
def folder(tmp_path: Path):
    def folder(config=CONFIG, pictures=PICTURES, weights="model.safetensors"):
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(pictures))
        (tmp_path / weights).write_bytes(b"no weights")
        return str(tmp_path)

    return folder


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config": {**CONFIG, "auto_map": {"AutoModel": "evil.py"}}}, "refused: auto_map: asks for code"),
        ({"config": {**CONFIG, "quantization_config": {}}}, "refused: quantization_config"),
        ({"config": {}}, "names no architecture"),
        ({"config": {"architectures": [3]}}, "names no architecture"),
        ({"config": [1]}, "names no architecture"),
        ({"weights": "pytorch_model.bin"}, "no .safetensors in it"),
        ({"pictures": {**PICTURES, "image_std": [0, 0, 0]}}, "std: expected positive numbers"),
        ({"pictures": {**PICTURES, "size": {"height": 10**9}}}, "size: expected a number of pixels"),
        ({"pictures": []}, "expected an object with fields"),
    ],
)
def test_a_folder_not_to_be_trusted_is_refused_before_anything_is_imported(
    folder, changed, message, monkeypatch
):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(FileError, match=message):
        load_hf(folder(**changed), CPU)


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(FileError, match="hf:absent: no such folder"):
        load_hf("absent", CPU)


def test_without_transformers_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UnavailableError) as caught:
        load_hf(folder(), CPU)
    assert "adapcli[hf]" in caught.value.hint


class Trunk(nn.Module):
    """What transformers' trunks answer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, 4)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return types.SimpleNamespace(last_hidden_state=torch.cat([tokens[:, :1], tokens], 1))


class Classifier(nn.Module):
    """A trunk and a head on its first token, as transformers builds them."""

    config = types.SimpleNamespace(num_labels=7, hidden_size=6)

    def __init__(self) -> None:
        super().__init__()
        self.base_model = Trunk()
        self.head = nn.Linear(6, 7)

    def forward(self, x):
        return types.SimpleNamespace(logits=self.head(self.base_model(x).last_hidden_state[:, 0]))


@pytest.mark.parametrize("missing", [[], ["head.weight"]])
def test_a_folder_is_loaded_by_transformers_own_code_from_safetensors_alone(folder, monkeypatch, missing):
    asked, network = [], Classifier()

    class Auto:
        @staticmethod
        def from_pretrained(path, **options):
            asked.append(options)
            return network, {"missing_keys": missing}

    module = types.SimpleNamespace(AutoModelForImageClassification=Auto)
    monkeypatch.setitem(sys.modules, "transformers", module)
    if missing:
        with pytest.raises(FileError, match=r"1 tensors missing: head\.weight"):
            load_hf(folder(), CPU)
        return
    teacher = load_hf(folder(), CPU)
    assert asked[0]["use_safetensors"] is True
    assert asked[0]["trust_remote_code"] is False
    assert asked[0]["local_files_only"] is True
    images = torch.randn(2, 3, 16, 16)
    for _ in range(2):  # what was seen before is not what is answered
        logits, features = teacher.answer(images)
        assert torch.equal(features, network.base_model.patches(images))
        images = images + 1
    assert (teacher.classes, teacher.feature_dim, logits.shape) == (7, 6, (2, 7))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["ViTForImageClassification", "Dinov2Model"])
def test_a_folder_that_transformers_wrote(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32}
    config = getattr(transformers, kind.partition("For")[0].removesuffix("Model") + "Config")
    network = getattr(transformers, kind)(config(**sizes, patch_size=8, num_labels=10)).eval()
    network.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**PICTURES, "size": {"height": 32}}))
    teacher = load_hf(str(tmp_path), CPU)
    images = torch.randn(2, 3, 32, 32)
    logits, features = teacher.answer(images)
    with torch.no_grad():
        expected = network(images, **({"output_hidden_states": True} if "For" in kind else {}))
    if "For" in kind:
        torch.testing.assert_close(logits, expected.logits)
    else:
        assert logits is None
        torch.testing.assert_close(features.flatten(2).transpose(1, 2), expected.last_hidden_state[:, 1:])
    assert features.shape == (2, 16, 4, 4)
    assert teacher.classes == (10 if "For" in kind else None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_models_of_timm_itself(name):
    timm = backbones_timm()
    teacher = load_timm(name, CPU, pretrained=False)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        logits, features = teacher.answer(images)
    assert logits.shape == (1, 1000)
    assert features.shape[:2] == (1, teacher.feature_dim)
    assert timm.is_model(name)


def backbones_timm():
    try:
        import timm
    except Exception as error:
        pytest.skip(f"timm cannot be used: {error}")
    return timm


def test_errors_are_cut_to_a_line():
    assert backbones._first_line(ValueError("a\nb")) == "a"
    assert backbones._first_line(ValueError()) == "ValueError"
