"""From a user's own images to a model, a table and a choice: every command finds what the one before left."""

import contextlib
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import adapcli
from adapcli.commands.sweep import _warn_constant
from adapcli.console import Console
from adapcli.main import main
from adapcli.report.findings import gather
from adapcli.run import Run
from policies.table import OutcomeTable

TINY = {
    "stages": "[{name: all, steps: 4, axes: [tokens, depth, width]}]",
    "batch": "8",
    "model.embed_dim": "16",
    "model.num_heads": "2",
    "model.depth": "2",
    "model.max_latent_tokens": "4",
    "model.token_granularities": "[1, 4]",
    "model.widths": "[8, 16]",
    "model.patch_size": "8",
    "evaluate_samples": "8",
}
SETTINGS = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
EACH = 40
NAMES = ["cat", "dog", "mouse"]


def pixels(label, seed):
    """20 x 20 of one colour per class, with noise."""
    noise = np.random.default_rng([label, seed]).integers(0, 60, (20, 20, 3))
    noise[..., label] += 150
    return noise.astype(np.uint8)


def class_folder(root):
    for label, name in enumerate(NAMES):
        (root / name).mkdir(parents=True)
        for seed in range(EACH):
            Image.fromarray(pixels(label, seed)).save(root / name / f"{seed}.png")
    return f"folder:{root}"


def archive(path, *, labelled=True):
    images = np.stack([pixels(label, seed) for label in range(3) for seed in range(EACH)])
    arrays = {"images": images}
    if labelled:
        arrays |= {"labels": np.repeat(np.arange(3), EACH), "class_names": np.array(NAMES)}
    np.savez(path, **arrays)
    return f"npz:{path}"


def flat_folder(root):
    root.mkdir()
    for seed in range(3 * EACH):
        Image.fromarray(pixels(seed % 3, seed)).save(root / f"{seed}.png")
    return f"folder:{root}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data `my images`, and a run `my run` that was trained on them."""
    home = tmp_path_factory.mktemp("home")
    class_folder(home / "my images")
    with contextlib.chdir(home):
        words = ["train", "--data", "folder:my images", "--run", "my run", "--quiet", "--json", *SETTINGS]
        assert main(words) == 0
    return home


@pytest.fixture
def home(trained, tmp_path, monkeypatch):
    """A copy of it, which is the working directory."""
    shutil.copytree(trained, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.delenv("ADAP_RUN", raising=False)
    (tmp_path / "home/my run/run.json").write_text(
        (trained / "my run/run.json").read_text().replace(str(trained), str(tmp_path / "home"))
    )
    return tmp_path / "home"


@pytest.fixture
def adap(capsys):
    def run(*words, code=0):
        found = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert found == code, captured.err
        return captured

    return run


def test_a_class_folder_is_trained_on_swept_and_searched_in_three_commands(adap, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = class_folder(tmp_path / "images")
    said = adap("train", "--data", "folder:images", "--run", "r", *SETTINGS).err
    assert "using images-quick, images of 32 px" in said
    said = adap("sweep", "--run", "r").err
    assert f"using this run's checkpoint r/train/model.pt and data {data}" in said
    assert "trained on" not in said
    assert "choice: " in adap("search", "--flops-target", "0.9", "--run", "r").out
    table = OutcomeTable.load("r/table")
    assert table.meta["class_names"] == NAMES
    assert table.meta["data"]["train_share"] == 0.5
    model = adapcli.load("r/train/model.pt")
    assert list(model.class_names) == NAMES
    counts = len(np.load("r/train/keys.npy")), table.n_samples
    assert sum(counts) == 3 * EACH
    assert min(counts) > EACH


def test_the_same_from_an_archive_of_numpy(adap, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    adap("train", "--data", archive(tmp_path / "x.npz"), "--run", "r", *SETTINGS)
    adap("sweep", "--run", "r")
    assert "choice: " in adap("search", "--flops-target", "0.9", "--run", "r").out
    assert OutcomeTable.load("r/table").meta["class_names"] == NAMES
    assert f"{len(np.load('r/train/keys.npy')) + OutcomeTable.load('r/table').n_samples}" == str(3 * EACH)


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_images_without_labels_are_swept_by_agreement(adap, home, tmp_path, kind):
    data = flat_folder(tmp_path / "x") if kind == "folder" else archive(tmp_path / "x.npz", labelled=False)
    words = ["--run", "unlabelled"]
    out = adap("sweep", "--ckpt", "my run/train/model.pt", "--data", data, *words).out
    assert "agreement with full on the test split" in out
    assert "accuracy" not in out
    table = OutcomeTable.load("unlabelled/table")
    assert not table.labelled
    assert (table.score == table.agreement).all()
    assert (table.samples["target"] == -1).all()
    said = adap("sweep", "--data", data, "--calibrate", "--overwrite", *words, code=2).err
    assert "error: calibration needs labels" in said
    if kind == "folder":
        assert "agreement with full" in adap("search", "--flops-target", "0.9", *words).out
        adap("train-policy", "--algo", "threshold", *words)
        assert "no labels" in adap("evaluate-policy", "--policy", "threshold", *words).out
        assert "no labels" in adap("diagnose", *words, code=3).err


def test_agreement_with_an_answer_that_hardly_changes_is_warned_of(capsys):
    _warn_constant(Console(), np.array([1] * 91 + [0] * 9))
    assert "gives the same answer to 91.0 % of the test samples" in capsys.readouterr().err
    _warn_constant(Console(), np.array([1] * 90 + [0] * 10))
    assert capsys.readouterr().err == ""


def test_training_images_stay_out_of_other_splits_whatever_the_seed_and_shares(adap, home):
    for number, more in enumerate([["--seed", "7"], ["--split", "1:1:2:4"], ["--data", "folder:my images"]]):
        said = adap("sweep", "--run", "my run", *more, *["--overwrite"] * bool(number)).err
        assert "was trained on" not in said
        assert "trained_on" not in OutcomeTable.load("my run/table").meta["data"]


def test_a_sweep_in_another_run_counts_the_training_images_among_its_samples(adap, home):
    words = ["--data", "folder:my images", "--run", "other"]
    said = adap("sweep", "--ckpt", "my run/train/model.pt", *words).err
    count = len(np.load("my run/train/keys.npy"))
    assert f"{count} of {3 * EACH} samples are images that the checkpoint was trained on" in said
    assert sum(OutcomeTable.load("other/table").meta["data"]["trained_on"].values()) == count
    assert f"{count} of {3 * EACH} samples are images" in gather(Run.open("other")).warnings[0]


def test_a_checkpoint_given_alone_is_swept_on_the_data_of_the_run_and_the_reverse(adap, home):
    shutil.copy("my run/train/model.pt", "copy.pt")
    said = adap("sweep", "--ckpt", "copy.pt", "--run", "my run").err
    assert f"using this run's data folder:{home}/my images" in said
    assert OutcomeTable.load("my run/table").meta["model"]["name"] == "copy"
    data = archive(home / "x.npz")
    said = adap("sweep", "--data", data, "--run", "my run", "--overwrite").err
    assert "using this run's checkpoint copy.pt" in said.replace(f"{home}/", "")


def test_a_checkpoint_no_better_than_guessing_is_said(adap, home, make_model):
    adapcli.save(make_model(num_classes=10), "foreign.pt")
    words = ["sweep", "--data", "digits", "--limit", "400", "--tokens", "1", "--run", "r"]
    said = adap(*words, "--ckpt", "foreign.pt").err
    assert "warning: the full configuration is right on" in said
    assert "was this checkpoint trained for these classes?" in said
    assert "warning" not in adap(*words, "--overwrite", "--ckpt", "packaged").err


def test_classes_numbered_by_order_are_said(adap, home, make_model):
    adapcli.save(make_model(num_classes=3, class_names=("0", "1", "2")), "foreign.pt")
    said = adap("sweep", "--ckpt", "foreign.pt", "--run", "my run").err
    assert "classes: those of the data are numbered by order" in said


def test_a_dry_run_reads_the_data_and_measures_steps(adap, home):
    out = adap("train", "--data", "folder:my images", "--dry-run", "--run", "new", *SETTINGS).out
    first = out.splitlines()[0]
    assert "data folder:my images: 3 classes (cat, dog, mouse), 3 channels; train " in first
    assert sum(map(int, re.findall("(?:train|fit|tune|calibration|test) ([0-9]+)", first))) == 3 * EACH
    assert re.search("time: about [0-9].* from 2 measured steps of each stage", out)
    assert not Path("new").exists()


def test_a_share_of_data_with_a_part_train_is_refused(adap, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in ("train", "val", "test"):
        class_folder(tmp_path / "x" / part)
    said = adap("train", "--data", "folder:x", "--train-share", "0.3", *SETTINGS, code=2).err
    assert "has a part train" in said


def test_train_share_and_split_are_followed_and_remembered(adap, home):
    options = ["--train-share", "0.2", "--split", "1:1:1:5"]
    adap("train", "--data", "folder:my images", "--run", "small", *options, *SETTINGS)
    assert len(np.load("small/train/keys.npy")) < EACH
    known = json.loads(Path("small/run.json").read_text())
    assert (known["data"]["train_share"], known["data"]["split_by"]) == (0.2, "1:1:1:5")
    adap("sweep", "--run", "small")
    assert OutcomeTable.load("small/table").meta["data"]["split_by"] == "1:1:1:5"


def test_the_packaged_checkpoint_is_recorded_by_name_and_images_inside_the_run_by_their_place(adap, home):
    adap("sweep", "--limit", "40", "--run", "p", "--tokens", "1", "--depths", "1")
    assert json.loads(Path("p/run.json").read_text())["checkpoint"]["path"] == "packaged"
    shutil.move("my images", "my run/images")
    adap("sweep", "--data", "folder:my run/images", "--run", "my run")
    assert json.loads(Path("my run/run.json").read_text())["data"]["name"] == "folder:images"
    shutil.move("my run", "moved")
    adap("sweep", "--run", "moved", "--overwrite")


def test_an_interrupted_sweep_resumes_with_its_own_inputs(adap, home, monkeypatch):
    from adapcli.sweep import tasks

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    words = ["--data", archive(home / "x.npz"), "--run", "my run"]
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "score_batch", interrupted)
        adap("sweep", *words, code=130)
    assert f"data npz:{home}/x.npz" in adap("sweep", "--resume", "--run", "my run").err
    assert "unfinished" not in json.loads(Path("my run/run.json").read_text())


def test_every_next_line_runs_as_it_is_printed_and_a_moved_run_goes_on(adap, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADAP_RUN", raising=False)
    class_folder(tmp_path / "my images")

    def then(expected, command, *words):
        """Run a command, then its next line, which must be `expected`; what that printed."""
        said = adap(command, *words).err
        (line,) = (line for line in said.splitlines() if "next: " in line)
        _, *following = shlex.split(line.partition("next: ")[2])
        assert following[0] == expected
        return adap(*following)

    said = then("sweep", "train", "--data", "folder:my images", "--run", "it's mine", *SETTINGS).err
    assert "using this run's checkpoint it's mine/train/model.pt and data" in said
    then("search", "sweep", "--overwrite", "--run", "it's mine")
    shutil.move("it's mine", "moved here")
    run = ["--run", "moved here"]
    found = then("predict", "search", "--flops-target", "0.9", *run)
    assert "using this run's checkpoint moved here/train/model.pt" in found.err
    assert len(found.out.splitlines()) == 1 + 3 * EACH
    assert ",mouse," in found.out
    then("report", "train-policy", "--algo", "threshold", *run)
    then("search", "bench", "--rounds", "3", "--which", "front", "--batch", "1", *run)
    then("info", "extract", "--tokens", "1", "-o", "my small.pt", *run)
    adap("predict", "--policy", "threshold", "my images/cat", *run)
    adap("sweep", "--resume", *run)
    Path("moved here/train/model.pt").rename("model.pt")
    said = adap("predict", "my images/cat", *run, code=3).err
    assert "moved here/train/model.pt: the checkpoint of this run is not there any more" in said
    assert "--ckpt" in said
    adap("predict", "my images/cat", "--ckpt", "model.pt", *run)


@pytest.mark.parametrize(
    "command", [["predict", "x.png"], ["extract", "-o", "s"], ["export", "-o", "m.onnx"]]
)
def test_a_mistyped_run_does_not_run_the_packaged_model(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--run", "typo"]) == 3
    assert capsys.readouterr().err.startswith("error: typo: no such run folder\n")
    assert not list(tmp_path.iterdir())
