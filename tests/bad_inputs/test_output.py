"""Where results cannot be written, or others are already: nothing is lost and nothing is left half done."""

import os
import shutil

import pytest

from adapcli.search import SearchResult
from policies.table import OutcomeTable


def leftovers(folder):
    """Temporary files that a failed write left."""
    return [path for path in folder.rglob("*") if path.name.endswith((".tmp", ".old"))]


@pytest.fixture
def full_disk(swept, disk_space):
    """After the first sweep of the session: what is loaded then tries out the disk for itself."""
    return disk_space


def sweep_words(checkpoint, *more):
    return ["sweep", "--ckpt", checkpoint, "--limit", "40", "--quiet", *more]


@pytest.mark.parametrize("size", [0, 2_000])
def test_a_full_disk_while_sweeping(adap, tmp_path, checkpoint, full_disk, size):
    with full_disk(size):
        ended = adap(*sweep_words(checkpoint))
    ended.refused(1, "File too large")
    assert not (tmp_path / "adap-run/table").exists()
    assert leftovers(tmp_path) == []
    assert adap(*sweep_words(checkpoint, "--resume")).code == 0


def test_a_full_disk_while_replacing_a_table(adap, run, checkpoint, full_disk, contents):
    before = contents(run / "table")
    with full_disk(2_000):
        adap(*sweep_words(checkpoint, "--overwrite")).refused(1, "File too large")
    assert contents(run / "table") == before
    assert OutcomeTable.load(run / "table").n_samples == 198
    assert leftovers(run) == []


def test_a_full_disk_while_searching(adap, run, full_disk, contents):
    assert adap("search", "--flops-target", "0.9").code == 0
    before = contents(run)
    with full_disk(0):
        ended = adap("search", "--flops-target", "0.5", "--overwrite")
    assert ended.code == 1
    assert "error: cannot write adap-run/search" in ended.err
    assert "Traceback" not in ended.err
    assert contents(run) == before
    assert SearchResult.load(run / "search").choice.cost_fraction <= 0.9


def test_a_full_disk_while_drawing(adap, run, full_disk, contents):
    (run / "report").mkdir()
    (run / "report" / "index.html").write_text("the one before")
    before = contents(run)
    with full_disk(20_000):
        adap("report").refused(1, "cannot write", "File too large")
    assert contents(run) == before


def test_a_full_disk_while_training(adap, recipe, tmp_path, full_disk):
    with full_disk(1_000):
        adap("train", "--recipe", recipe).refused(1, "File too large")
    assert not (tmp_path / "adap-run/train/model.pt").exists()
    assert leftovers(tmp_path) == []


@pytest.fixture
def closed():
    """A folder that nobody can make, not even the superuser."""
    if not os.access("/sys/kernel", os.R_OK):
        pytest.skip("no /sys here")
    return "/sys/kernel/adap-run"


def test_a_read_only_place(adap, closed, checkpoint, recipe):
    adap(*sweep_words(checkpoint, "--run", closed)).refused(1, "cannot make /sys/kernel/adap-run", "--run")
    adap("train", "--recipe", recipe, "--run", closed).refused(1, "cannot make /sys/kernel/adap-run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("words", [["search"], ["report"], ["train-policy"]], ids=lambda words: words[0])
def test_a_run_folder_without_the_right_to_write(adap, run, words):
    run.chmod(0o500)
    ended = adap(*words)
    run.chmod(0o700)
    assert ended.code == 1
    assert "error: cannot write" in ended.err


@pytest.mark.parametrize("piece", ["table", "train"])
def test_a_file_in_the_place_of_results(adap, tmp_path, checkpoint, recipe, piece):
    (tmp_path / "adap-run").mkdir()
    (tmp_path / "adap-run" / piece).touch()
    words = sweep_words(checkpoint) if piece == "table" else ["train", "--recipe", recipe]
    for more in ([], ["--overwrite"], ["--resume"]):
        adap(*words, *more).refused(2, f"adap-run/{piece}: is a file, not a folder")


@pytest.mark.parametrize(("piece", "words"), [("search", ["search"]), ("report", ["report"])])
def test_a_file_in_the_place_of_small_results(adap, run, piece, words):
    (run / piece).write_text("mine")
    ended = adap(*words)
    assert ended.code in (1, 2)
    assert f"error: adap-run/{piece}" in ended.err.replace("cannot write ", "")
    assert "Traceback" not in ended.err
    assert (run / piece).read_text() == "mine"


def test_a_search_result_is_kept_beside_the_new_one(adap, run):
    assert adap("search", "--flops-target", "0.9").code == 0
    first = (run / "search" / "search.json").read_bytes()
    assert "kept the earlier result in" in adap("search", "--flops-target", "0.5").err
    kept = [path for path in run.rglob("search.json") if path.read_bytes() == first]
    assert len(kept) == 1


def test_only_looking_at_the_front_does_not_replace_a_choice(adap, run):
    assert adap("search", "--flops-target", "0.9").code == 0
    first = (run / "search" / "search.json").read_bytes()
    assert "stays" in adap("search").err
    assert (run / "search" / "search.json").read_bytes() == first
    assert adap("search", "--overwrite").code == 0
    assert (run / "search" / "search.json").read_bytes() != first


def test_a_run_folder_that_vanishes_while_it_is_used(adap, run, monkeypatch):
    """Somebody cleans up: one line, no traceback."""
    from adapcli.search import SearchResult as Result

    whole = Result.save

    def save(self, folder, **named):
        shutil.rmtree(run)
        return whole(self, folder, **named)

    monkeypatch.setattr(Result, "save", save)
    ended = adap("search")
    assert "Traceback" not in ended.err
    assert "defect" not in ended.err
