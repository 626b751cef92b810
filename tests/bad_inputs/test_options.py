"""Values that no option takes, devices and packages that are not there, studies of something else."""

import shutil

import pytest
import torch

from adapcli.measure import device


def test_a_command_that_does_not_exist(adap):
    ended = adap("trian")
    ended.refused(2, "No such command 'trian'. Did you mean 'train'")


@pytest.mark.parametrize(
    "command", ["sweep", "search", "train-policy", "report", "info", "train", "demo", "doctor"]
)
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--foo"], "No such option: --foo"),
        (["--jsno"], "No such option: --jsno"),
        (["x"], "unexpected extra argument"),
    ],
)
def test_options_and_arguments_that_do_not_exist(adap, command, words, told, tmp_path):
    line = adap(command, *words).refused(2, f"hint: see `python -m adapcli {command} --help`")
    assert told.lower() in line.lower()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sweep", "--batch", "0"], "expected a whole number from 1 to 65536"),
        (["sweep", "--threads", "9999"], "expected a whole number from 1 to 1024"),
        (["sweep", "--workers", "9999"], "expected a whole number from 0 to 256"),
        (["train", "--workers", "-1"], "expected a whole number from 0 to 256"),
        (["sweep", "--seed", str(2**70)], "expected a whole number from 0 to 4294967295"),
        (["sweep", "--limit", "1e3"], "expected a whole number from 1"),
        (["sweep", "--tokens", ""], "expected whole numbers with commas"),
        (["search", "--flops-target", "0"], "expected a fraction in (0, 1]: write 0.7"),
        (["search", "--flops-target", ""], "expected a fraction in (0, 1]: write 0.7"),
        (["search", "--flops-target"], "requires an argument"),
        (["search", "--sampler", "tpe", "--trials", "-1"], "expected a whole number from 1"),
        (["demo", "--limit", "0"], "expected a whole number from 1"),
        (["demo", "--resume", "--overwrite"], "exclude each other"),
        *[([command, "--device", name], "allowed are auto, cpu, cuda, cuda:N")
          for command in ("sweep", "train", "doctor") for name in ("cudaa", "cuda:x", "gpu")],
    ],
)  # fmt: skip
def test_values_out_of_range(adap, words, told, tmp_path):
    ended = adap(*words)
    if words[0] == "demo":
        ended = ended._replace(out="")
    ended.refused(2, told)
    assert not (tmp_path / "adap-run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("words", [["sweep"], ["train"], ["doctor"]], ids=lambda words: words[0])
def test_a_device_that_is_not_there(adap, words, tmp_path):
    adap(*words, "--device", "cuda").refused(
        4, "device cuda: this machine has no CUDA device", "--device cpu"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_missing(adap, monkeypatch):
    whole = device.version
    monkeypatch.setattr(device, "version", lambda name: None if name == "scipy" else whole(name))
    ended = adap("doctor")
    assert "pandas" in ended.out, "what is there is shown all the same"
    ended._replace(out="").refused(4, "not installed: scipy", "hint: pip install scipy")


@pytest.fixture
def study(adap, run):
    """A study of the table, with six of its configurations evaluated."""
    words = ("search", "--sampler", "random", "--study", "s.log", "--trials")
    assert adap(*words, 6).code == 0
    return run.parent / "s.log", words


def test_a_study_with_garbage_in_its_middle(adap, study, contents):
    path, words = study
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"garbage\n", *lines[3:]]))
    before = contents(path.parent)
    adap(*words, 9).refused(3, "s.log: line 4 is not a record of an Optuna journal")
    assert contents(path.parent) == before


def test_a_study_of_another_table(adap, study, run, checkpoint):
    path, words = study
    more = ("--limit", "200", "--tokens", "1,4", "--quiet", "--overwrite")
    assert adap("sweep", "--ckpt", checkpoint, *more).code == 0
    before = path.read_bytes()
    adap(*words, 9).refused(3, "s.log: study was made for")
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"text\n", b"\x00\xff", b"PK\x03\x04"])
def test_a_study_that_is_none(adap, run, contents, content):
    (run.parent / "s.log").write_bytes(content)
    before = contents(run.parent)
    ended = adap("search", "--sampler", "random", "--study", "s.log", "--trials", 3)
    if content:  # an empty file is a study that was never begun
        ended.refused(3, "s.log")
        assert contents(run.parent) == before
    else:
        assert ended.code == 0


def test_a_report_beside_a_run_without_a_table(adap, run, contents, tmp_path):
    before = contents(run)
    adap("report", "--compare", "nowhere").refused(3, "no outcome table in nowhere")
    shutil.copytree(run, tmp_path / "other")
    (tmp_path / "other" / "table" / "score.npy").write_bytes(b"")
    adap("report", "--compare", "other").refused(3, "other/table/score.npy")
    assert contents(run) == before
