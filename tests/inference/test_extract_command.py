"""`adap extract`: what it writes, and what it says about it."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import adapcli
from adapcli.main import main
from adapcli.run import Run
from adapcli.space import Configuration


@pytest.fixture
def checkpoint(make_model, tmp_path):
    path = tmp_path / "m.pt"
    adapcli.save(make_model(class_names=list("abcdefg")), path)
    return path


@pytest.mark.parametrize("name", ["small", "small.pt"])
@torch.no_grad()
def test_what_is_written_is_the_configuration(checkpoint, tmp_path, capsys, name):
    output = tmp_path / name
    words = ["--ckpt", str(checkpoint), "--tokens", "5", "--width", "13", "--depth", "2", "-o", str(output)]
    assert main(["extract", *words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    model, small = adapcli.load(checkpoint), adapcli.load(output)
    x = torch.randn(2, 1, 16, 16)
    asked = Configuration(5, 13, 2)
    torch.testing.assert_close(small(x).logits, model(x, asked).logits, atol=1e-6, rtol=1e-6)
    assert (small.class_names, small.preprocessing) == (model.class_names, model.preprocessing)
    assert told["extracted"]["published_flops"] == adapcli.flops(model.config, asked)
    assert told["original"]["published_flops"] == adapcli.flops(model.config, model.full_configuration)
    for facts, of in (("original", model), ("extracted", small)):
        assert told[facts]["parameters"] == sum(p.numel() for p in of.parameters())
    assert told["extracted"]["bytes"] < told["original"]["bytes"] == checkpoint.stat().st_size
    assert told["extracted"]["configurations"] == 3 * 2 * 2


def test_what_is_not_said_stays_as_large_as_it_is(checkpoint, tmp_path, capsys):
    assert main(["extract", "--ckpt", str(checkpoint), "-o", str(tmp_path / "same")]) == 0
    assert adapcli.load(tmp_path / "same").config == adapcli.load(checkpoint).config
    shown = capsys.readouterr()
    assert "t8 w24 l3" in shown.out
    assert f"next: adap info --ckpt {tmp_path / 'same'}" in shown.err


@pytest.mark.slow
def test_the_packaged_model_is_extracted_and_swept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["extract", "--tokens", "4", "--width", "32", "--depth", "3", "-o", "small", "--quiet"]) == 0
    assert main(["info", "--ckpt", "small", "--quiet"]) == 0
    assert main(["sweep", "--ckpt", "small", "--limit", "100", "--quiet"]) == 0
    assert "t4 w32 l3" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["extract", "export", "predict"])
def test_without_a_checkpoint_the_run_s_own_is_used(checkpoint, tmp_path, capsys, monkeypatch, command):
    """Each command finds what the ones before left: not the packaged model under another one's policy."""
    monkeypatch.chdir(tmp_path)
    Image.new("L", (16, 16)).save("picture.png")
    Run.open(None).record(checkpoint={"path": str(checkpoint)})
    words = ["picture.png"] if command == "predict" else ["-o", "written.pt2" if command == "export" else "w"]
    assert main([command, *words]) == 0
    assert f"using this run's checkpoint {checkpoint}" in capsys.readouterr().err
    Path("elsewhere").mkdir()
    assert main([command, *words, "--run", "elsewhere", "--overwrite"]) == 0
    assert "using the packaged checkpoint" in capsys.readouterr().err
