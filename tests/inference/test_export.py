"""Exported files: other runtimes give the model's answers at any batch size, and the file says how to ask."""

import io
import json
import sys
import zipfile

import numpy as np
import pytest
import torch

import adapcli
from adapcli.errors import AdapError, UnavailableError, UsageError
from adapcli.inference import export as module
from adapcli.inference.fixed import ANSWERS
from adapcli.main import main
from adapcli.model.preprocessing import Preprocessing
from adapcli.space import Configuration

ASKED = Configuration(2, 13, 2)
VARIANTS = [
    {"task": "distillation", "mask": "causal", "ffn": "mlp"},
    {"task": "segmentation", "mask": "block", "ffn": "swiglu", "use_output_ffn": True},
    {"task": "depth", "mask": "none", "ffn": "mlp", "num_bins": 5},
]


def task_of(variant):
    return variant["task"]


@pytest.fixture
def build(make_model):
    """A model that sees larger images than it was trained on."""

    def make(**variant):
        model = make_model(output_feat_dim=6, class_names=list("abcdefg"), **variant)
        model.preprocessing = Preprocessing(24, 26, (0.2,), (0.4,))
        return model

    return make


def metadata_in(path):
    if path.suffix == ".pt2":
        with zipfile.ZipFile(path) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("extra/adap.json")]
            return json.loads(archive.read(name))
    import onnxruntime

    return json.loads(onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map["adap"])


def assert_no_places(path, folder):
    """Files tell nothing of the machine that they were made on."""
    content = path.read_bytes()
    for place in (str(folder), module.__file__.rpartition("/")[0], sys.prefix):
        assert place.encode() not in content


def run_onnx(path, x):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return dict(
        zip((o.name for o in session.get_outputs()), session.run(None, {"images": x.numpy()}), strict=True)
    )


def assert_answers(model, found, x):
    with torch.no_grad():
        out = model(x, ASKED)
    assert list(found) == list(ANSWERS[model.config.task])
    for name, answer in found.items():
        expected = getattr(out, name).numpy()
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, expected, atol=1e-5 * abs(expected).max(), rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS, ids=task_of)
def test_onnxruntime_gives_the_models_answers(build, tmp_path, variant):
    model, path = build(**variant), tmp_path / "m.onnx"
    written = adapcli.export(model, path, ASKED)
    assert written.bytes == path.stat().st_size
    assert written.max_relative_error < 1e-5
    for batch in (1, 2, 5):
        x = torch.randn(batch, 1, 24, 24)
        assert_answers(model, run_onnx(path, x), x)
    assert metadata_in(path) == json.loads(json.dumps(written.metadata))


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{"task": "classification"}, {"task": "features"}], ids=task_of)
def test_torchs_own_file_gives_the_models_answers(build, tmp_path, variant):
    model, path = build(**variant), tmp_path / "m.pt2"
    written = adapcli.export(model, path, ASKED)
    assert written.max_relative_error < 1e-5
    program = torch.export.load(io.BytesIO(path.read_bytes())).module()
    for batch in (1, 2, 5):
        x = torch.randn(batch, 1, 24, 24)
        answers = [answer.detach().numpy() for answer in program(x)]
        assert_answers(model, dict(zip(ANSWERS[variant["task"]], answers, strict=True)), x)
    assert metadata_in(path) == json.loads(json.dumps(written.metadata))
    assert_no_places(path, tmp_path)


def test_the_file_says_how_to_feed_it(build):
    model = build()
    told = module.describe(model, Configuration(5, (13, 6), 2))
    assert json.loads(json.dumps(told)) == told
    assert told["configuration"] == {"tokens": 5, "width": [13, 6], "depth": 2}
    assert told["input"]["shape"] == ["batch", 1, 24, 24]
    assert told["preprocessing"] == model.preprocessing.to_dict()
    assert told["class_names"] == list("abcdefg")
    costs = adapcli.flops(model.config, Configuration(5, (13, 6), 2), 24, "folded", "block")
    assert told["cost_flops"] == costs


def fake(monkeypatch, answers):
    """Exporting without exporters: what the written file would answer is `answers` of the right ones."""
    monkeypatch.setattr(module, "_pt2", lambda fixed, metadata: b"file")
    asked = []

    def load(content):
        assert content == b"file"
        return lambda x: asked.append(len(x)) or answers(asked[-1])

    monkeypatch.setattr(module, "_run_pt2", load)
    monkeypatch.setattr(module, "_answers", lambda model, x, configuration: [torch.full((len(x), 7), 2.0)])
    return asked


@pytest.mark.parametrize(
    ("answers", "passes"),
    [
        (lambda n: [torch.full((n, 7), 2.0)], True),
        (lambda n: [torch.full((n, 7), 2.0001)], True),
        (lambda n: [torch.full((n, 7), 2.001)], False),
        (lambda n: [torch.full((n, 7), 2.0 if n == 1 else 3.0)], False),
        (lambda n: [torch.full((n, 7), 2.0 if n == 3 else float("nan"))], False),
        (lambda n: [torch.full((1, 7), 2.0)], False),
        (lambda n: [torch.full((n, 1), 2.0)], False),
    ],
)
def test_answers_that_differ_are_not_written(make_model, tmp_path, monkeypatch, answers, passes):
    asked = fake(monkeypatch, answers)
    path = tmp_path / "m.pt2"
    if passes:
        assert module.export(make_model(), path).bytes == 4
        assert path.read_bytes() == b"file"
        assert asked == [1, 3]
        return
    with pytest.raises(AdapError, match="nothing was written") as caught:
        module.export(make_model(), path)
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_compared_is_the_model_in_evaluation(make_model):
    model = make_model(task="depth", output_feat_dim=6, num_bins=5, max_depth=0.002)
    x = torch.randn(2, 1, 16, 16)
    expected = model(x, ASKED).maps
    (found,) = module._answers(model.train(), x, ASKED)
    assert torch.equal(found, expected)
    assert model.training


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_one_line_says_what_to_install(make_model, tmp_path, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    adapcli.save(make_model(), tmp_path / "m")
    words = ["export", "--ckpt", str(tmp_path / "m"), "-o", str(tmp_path / "m.onnx")]
    assert main(words) == 4
    shown = capsys.readouterr()
    assert "error: ONNX needs the export extra\nhint: pip install 'adapcli[export]'" in shown.err
    assert shown.out == ""
    assert not (tmp_path / "m.onnx").exists()
    with pytest.raises(UnavailableError):
        adapcli.export(make_model(), tmp_path / "m", format="onnx")


def test_pt2_needs_no_extra(make_model, tmp_path, monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    fake(monkeypatch, lambda n: [torch.full((n, 7), 2.0)])
    assert module.export(make_model(), tmp_path / "m", format="pt2").format == "pt2"


def test_weights_beyond_what_onnx_holds_are_refused(make_model, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ONNX_BYTES", 1000)
    with pytest.raises(AdapError, match="more than an ONNX file holds") as caught:
        module.export(make_model(), tmp_path / "m.onnx")
    assert caught.value.hint == "format pt2 has no limit"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("m", {}, "cannot tell the format"),
        ("m.pt", {}, "cannot tell the format"),
        ("m.onnx", {"format": "onxx"}, "format 'onxx': not known"),
        ("m.onnx", {"configuration": Configuration(5, 99, 2)}, "width 99: not allowed"),
        ("m.onnx", {"configuration": Configuration(5, 13, 4)}, "depth 4: not allowed"),
    ],
)
def test_what_cannot_be_exported_is_refused(make_model, tmp_path, name, words, message):
    with pytest.raises(UsageError, match=message):
        adapcli.export(make_model(), tmp_path / name, **words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_writes_and_tells(make_model, tmp_path, capsys):
    model = make_model()
    adapcli.save(model, tmp_path / "m")
    words = ["--tokens", "2", "--width", "13", "--depth", "2", "-o", str(tmp_path / "m.onnx")]
    assert main(["export", "--ckpt", str(tmp_path / "m"), *words]) == 0
    shown = capsys.readouterr()
    assert "t2 w13 l2" in shown.out
    assert "largest error" in shown.out
    assert shown.err == "exporting t2 w13 l2 as onnx\n"
    x = torch.randn(4, 1, 16, 16)
    assert_answers(adapcli.load(tmp_path / "m"), run_onnx(tmp_path / "m.onnx", x), x)
    assert metadata_in(tmp_path / "m.onnx")["configuration"] == {"tokens": 2, "width": 13, "depth": 2}
    assert_no_places(tmp_path / "m.onnx", tmp_path)
