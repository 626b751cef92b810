"""`adap sweep` and `adap info` as they are typed."""

import errno
import json
import os
import shutil

import pytest
import torch

import adapcli
from adapcli.main import main
from adapcli.model.flops import flops
from policies.table import OutcomeTable
from policies.table.writer import partial_folder


@pytest.fixture(scope="module")
def checkpoint(make_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "m.pt"
    adapcli.save(make_model(num_classes=10), path)
    return path


@pytest.fixture
def adap(checkpoint, tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADAP_RUN", raising=False)

    def run(*arguments, ckpt=checkpoint):
        words = [str(word) for word in arguments]
        code = main([words[0], *([] if ckpt is None else ["--ckpt", str(ckpt)]), *words[1:]])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_sweep_fills_the_run_folder_and_says_what_is_next(adap, tmp_path, checkpoint):
    code, out, err = adap("sweep", "--limit", 40)
    assert code == 0, err
    assert out.splitlines()[0] == "36 configurations on 38 samples; accuracy on the test split"
    assert "t1 w6 l1" in out
    assert "t8 w24 l3" in out
    assert "next: adap search" in err
    table = OutcomeTable.load(tmp_path / "adap-run" / "table")
    assert table.n_configs == 36
    assert set(table.configs["model"]) == {"m"}
    run = json.loads((tmp_path / "adap-run" / "run.json").read_text())
    assert run["checkpoint"] == {
        "path": str(checkpoint),
        "fingerprint": table.meta["fingerprints"]["checkpoint"],
    }
    assert run["data"]["name"] == "digits"


def test_sweep_in_json_is_one_object(adap, tmp_path):
    code, out, err = adap("sweep", "--limit", 40, "--tokens", "1,5", "--depths", 2, "--json", "--quiet")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["configurations"] == 7
    assert found["summary"][1]["configuration"] == "t8 w24 l3"
    assert sum(found["samples"].values()) == 38


def test_an_added_full_configuration_is_said(adap):
    _, _, err = adap("sweep", "--limit", 40, "--widths", 6)
    assert "the full configuration was added" in err


def test_a_dry_run_writes_nothing(adap, tmp_path):
    code, out, err = adap("sweep", "--dry-run", "--limit", 100, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["samples"] == 99
    assert found["configurations"] == 36
    assert found["seconds"] > 0
    assert found["disk_bytes"] > 99 * 36 * 16
    assert list(tmp_path.iterdir()) == []


def test_results_are_not_overwritten_silently(adap, tmp_path):
    adap("sweep", "--limit", 40)
    code, _, err = adap("sweep", "--limit", 40)
    assert code == 2
    assert "--resume" in err
    assert "--overwrite" in err
    assert adap("sweep", "--limit", 40, "--overwrite", "--seed", 1)[0] == 0
    assert OutcomeTable.load(tmp_path / "adap-run" / "table").meta["seed"] == 1


def test_resume_names_what_differs(adap):
    adap("sweep", "--limit", 40)
    code, _, err = adap("sweep", "--limit", 80, "--resume")
    assert code == 3
    assert "sizes.test: 18 there, 36 here" in err
    assert adap("sweep", "--limit", 40, "--resume")[0] == 0


def test_an_interrupt_leaves_a_resumable_run(adap, tmp_path, monkeypatch):
    from adapcli.sweep import sweep as sweep_module
    from adapcli.sweep import tasks as tasks_module

    monkeypatch.setattr(sweep_module, "LARGEST_CHUNK", 16)
    whole = tasks_module.score_batch
    calls = []

    def interrupted(*arguments, **named):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    monkeypatch.setattr(tasks_module, "score_batch", interrupted)
    code, _, err = adap("sweep", "--limit", 80)
    assert code == 130
    assert "--limit 80 --resume" in err
    assert partial_folder(tmp_path / "adap-run" / "table").is_dir()
    code, _, err = adap("sweep", "--limit", 80)
    assert code == 2
    assert "unfinished" in err
    assert adap("sweep", "--limit", 80, "--resume")[0] == 0
    assert OutcomeTable.load(tmp_path / "adap-run" / "table").n_samples == 78


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--tokens", "0"], 2, "allowed: 1, 2, 5, 8"),
        (["--tokens", "33"], 2, "allowed: 1, 2, 5, 8"),
        (["--depths", "99"], 2, "allowed: 1, 2, 3"),
        (["--widths", "1,6"], 2, "allowed: 6, 13, 24"),
        (["--tokens", "1;2"], 2, "1,2,8"),
        (["--tokens", "-1"], 2, "1,2,8"),
        (["--limit", "3"], 2, "4 or more"),
        (["--limit", "0"], 2, "from 1"),
        (["--batch", "0"], 2, "from 1"),
        (["--seed", str(2**70)], 2, "from 0"),
        (["--device", "cudaa"], 2, "cuda:N"),
        (["--data", "imagenet"], 2, "folder:PATH"),
        (["--data", "folder:nowhere"], 3, "nowhere"),
        (["--resume", "--overwrite"], 2, "exclude"),
    ],
)
def test_bad_options(adap, tmp_path, arguments, code, told):
    found, out, err = adap("sweep", *arguments)
    assert (found, out) == (code, "")
    assert told in err
    assert "Traceback" not in err
    assert not (tmp_path / "adap-run" / "table").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(adap):
    code, _, err = adap("sweep", "--device", "cuda")
    assert code == 4
    assert "no CUDA device" in err


@pytest.mark.parametrize("command", ["sweep", "info"])
@pytest.mark.parametrize(
    ("name", "content"),
    [("missing.pt", None), ("empty.pt", b""), ("text.pt", b"weights"), ("cut.pt", b"PK\3\4")],
)
def test_unreadable_checkpoints(adap, tmp_path, command, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, out, err = adap(command, ckpt=tmp_path / name)
    assert (code, out) == (3, "")
    assert name in err
    assert not (tmp_path / "adap-run").exists()


def test_a_checkpoint_of_another_task(adap, make_model, tmp_path):
    adapcli.save(make_model(task="features", output_feat_dim=6), tmp_path / "f.pt")
    code, _, err = adap("sweep", ckpt=tmp_path / "f.pt")
    assert code == 3
    assert "this checkpoint is for features" in err


def test_a_checkpoint_of_other_classes(adap, make_model, tmp_path):
    adapcli.save(make_model(num_classes=9), tmp_path / "nine.pt")
    code, _, err = adap("sweep", ckpt=tmp_path / "nine.pt")
    assert code == 3
    assert "9 classes" in err


def test_a_file_in_place_of_the_run_folder(adap, tmp_path):
    (tmp_path / "adap-run").write_text("")
    code, _, err = adap("sweep")
    assert code == 2
    assert "not a run folder" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(adap, tmp_path):
    tmp_path.chmod(0o500)
    code, _, err = adap("sweep", "--limit", 40)
    tmp_path.chmod(0o700)
    assert code == 1
    assert "cannot make" in err


def test_a_full_disk_leaves_no_half_table(adap, tmp_path, monkeypatch):
    from policies import files

    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        code, _, err = adap("sweep", "--limit", 40)
    assert code == 1
    assert "No space left on device" in err
    assert not (tmp_path / "adap-run" / "table").exists()
    assert adap("sweep", "--limit", 40, "--resume")[0] == 0
    OutcomeTable.load(tmp_path / "adap-run" / "table")


def test_files_that_cannot_be_read_are_counted(adap, make_model, tmp_path):
    from PIL import Image

    for label in "ab":
        (tmp_path / "pictures [red]" / label).mkdir(parents=True)
        for i in range(30):
            picture = Image.new("L", (20, 18), 5 * i + 100 * (label == "b"))
            picture.save(tmp_path / "pictures [red]" / label / f"{i}.png")
    (tmp_path / "pictures [red]" / "a" / "broken.png").write_bytes(b"no picture")
    adapcli.save(make_model(num_classes=2), tmp_path / "two.pt")
    code, _, err = adap("sweep", "--data", f"folder:{tmp_path}/pictures [red]", ckpt=tmp_path / "two.pt")
    assert code == 0, err
    assert "cannot be read: 1, first a/broken.png" in err
    table = OutcomeTable.load(tmp_path / "adap-run" / "table")
    assert table.n_samples == 60
    assert table.meta["data"]["skipped"] == 1
    assert table.meta["class_names"] == ["a", "b"]


def test_a_name_that_is_no_text(adap, checkpoint, tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/od\xffd.pt")
    shutil.copy(checkpoint, name)
    code, _, err = adap("sweep", "--limit", 40, ckpt=name)
    assert code == 0, err
    assert set(OutcomeTable.load(tmp_path / "adap-run" / "table").configs["model"]) == {"od\\xffd"}


def test_info_shows_costs_in_both_conventions(adap, make_model, checkpoint):
    code, out, err = adap("info")
    assert code == 0, err
    config = adapcli.load(checkpoint).config
    code, out, err = adap("info", "--json", "--quiet")
    found = json.loads(out)
    assert found["parameters"] == sum(p.numel() for p in adapcli.load(checkpoint).parameters())
    full = found["grid"]["full"]
    assert full["published_flops"] == flops(config, config.full_configuration)
    executed = flops(config, config.full_configuration, readout="folded", attention="block")
    assert full["executed_flops"] == executed
    cheapest = found["grid"]["cheapest"]["executed_flops"]
    assert found["grid"]["span"] == pytest.approx(executed / cheapest)
    assert found["checkpoint"]["bytes"] == checkpoint.stat().st_size
    assert found["architecture"] == config.to_dict()


@pytest.mark.slow
def test_info_of_the_published_size(adap, tmp_path):
    adapcli.save(adapcli.AdaPerceiver(adapcli.ModelConfig(num_classes=1000)), tmp_path / "published")
    code, out, err = adap("info", ckpt=tmp_path / "published")
    assert code == 0, err
    assert "143.8" in out.replace(",", ".")
    assert "378 in all" in out
    assert "76.38 GFLOPs" in out
    assert "73.82 GFLOPs" in out


def test_info_of_a_dense_model(adap, make_model, tmp_path):
    adapcli.save(make_model(task="segmentation", output_feat_dim=6), tmp_path / "s")
    code, out, err = adap("info", ckpt=tmp_path / "s")
    assert code == 0, err
    assert "segmentation" in out


def test_without_a_checkpoint_the_packaged_one_is_named(adap, checkpoint, monkeypatch):
    monkeypatch.setattr("adapcli.model.checkpoint.packaged", lambda: checkpoint)
    for command in (["info"], ["sweep", "--limit", "40"]):
        code, _, err = adap(*command, ckpt=None)
        assert code == 0, err
        assert f"using the packaged checkpoint {checkpoint}" in err
