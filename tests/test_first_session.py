"""From a user's own images to a model, a table and a choice: every command finds what the one before left."""

import contextlib
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import adapcli
from adapcli.main import main
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
def test_images_without_labels_go_through_all_commands(adap, home, tmp_path, kind):
    words = ["--run", "unlabelled"]
    data = flat_folder(tmp_path / "x") if kind == "folder" else archive(tmp_path / "x.npz", labelled=False)
    out = adap("sweep", "--ckpt", "my run/train/model.pt", "--data", data, *words).out
    assert "agreement with full on the test split" in out
    assert "accuracy" not in out
    table = OutcomeTable.load("unlabelled/table")
    assert not table.labelled
    assert (table.score == table.agreement).all()
    assert (table.samples["target"] == -1).all()
    adap("search", "--flops-target", "0.9", *words)
    adap("train-policy", "--algo", "threshold", *words)
    adap("evaluate-policy", "--policy", "threshold", *words)
    adap("report", *words)


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
    adap("report", "--run", "other")
    assert f"{count} of" in Path("other/report/report.md").read_text()


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
    assert "3 classes (cat, dog, mouse), 3 channels; train " in out.splitlines()[0]
    assert "time: about" in out
    assert "from 2 measured steps of each stage" in out
    found = json.loads(
        adap("train", "--data", "folder:my images", "--dry-run", "--json", "--quiet", *SETTINGS).out
    )
    assert sum(found["counts"].values()) == 3 * EACH
    assert found["seconds"] > 0
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


def test_a_moved_run_goes_on(adap, home):
    run = ["--run", "my run"]
    adap("sweep", *run)
    adap("train-policy", "--algo", "threshold", *run)
    shutil.move("my run", "elsewhere")
    run = ["--run", "elsewhere"]
    adap("search", "--flops-target", "0.9", *run)
    adap("report", *run)
    images = home / "my images/cat/0.png"
    said = adap("predict", "--policy", "threshold", images, *run)
    assert "using this run's checkpoint elsewhere/train/model.pt" in said.err
    assert any(f",{name}," in said.out for name in NAMES)
    adap("sweep", "--resume", *run)
    adap("bench", "--rounds", "3", "--which", "front", "--batch", "1", *run)
    Path("elsewhere/train/model.pt").rename("elsewhere/model.pt")
    said = adap("predict", images, *run, code=3).err
    assert "elsewhere/train/model.pt: the checkpoint of this run is not there any more" in said
    assert "--ckpt" in said
    adap("predict", images, "--ckpt", "elsewhere/model.pt", *run)


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


@pytest.mark.parametrize("variable", [None, "my run", "other"])
def test_every_next_line_runs_as_it_is_printed(adap, home, monkeypatch, variable):
    shutil.rmtree("my run")
    if variable:
        monkeypatch.setenv("ADAP_RUN", variable)
    where = [] if variable == "my run" else ["--run", "my run"]
    commands = [
        ["train", "--data", "folder:my images", *SETTINGS],
        ["sweep", "--overwrite"],
        ["search", "--flops-target", "0.9"],
        ["train-policy", "--algo", "threshold"],
        ["bench", "--rounds", "3", "--which", "front", "--batch", "1"],
        ["extract", "--tokens", "1", "-o", "my small.pt"],
    ]
    ran = []
    for command in commands:
        said = adap(*command, *where).err
        (line,) = (line for line in said.splitlines() if "next: " in line)
        words = shlex.split(line.partition("next: ")[2])
        assert words[0] == "adap"
        adap(*words[1:])
        ran.append(words[1])
    assert ran == ["sweep", "search", "predict", "report", "search", "info"]
