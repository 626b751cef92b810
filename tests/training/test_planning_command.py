"""`adap train --print-config` and `--dry-run`: what would run, and nothing that runs."""

import json
from pathlib import Path

import pytest
import yaml

from adapcli.main import main
from adapcli.training.recipe import load_recipe


@pytest.fixture
def adap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["train", *words])
        return code, *capsys.readouterr()

    return run


def test_the_whole_recipe_is_printed_as_a_file_that_is_one(adap, tmp_path):
    code, out, err = adap("--print-config", "--set", "batch=7", "--seed", "3", "--teacher", "self")
    assert (code, err) == (0, "")
    (tmp_path / "mine.yaml").write_text(out)
    recipe = load_recipe("mine.yaml")
    assert (recipe.batch, recipe.seed, recipe.teacher.source) == (7, 3, "self")
    assert recipe.loss.distillation == 1  # a teacher nobody listens to would teach nothing
    assert recipe.model_dump(exclude={"batch", "seed", "teacher", "loss"}) == load_recipe(
        "digits-quick"
    ).model_dump(exclude={"batch", "seed", "teacher", "loss"})
    assert json.loads(adap("--print-config", "--json")[1])["recipe"]["name"] == "digits-quick"
    assert yaml.safe_load(out)["optimiser"]["name"] == "adamw"


def test_a_plan_shows_each_stage_and_makes_nothing(adap, tmp_path):
    code, out, err = adap("--dry-run", "--set", "batch=4")
    assert code == 0
    assert out.splitlines()[0].startswith("data digits: 10 classes (0, 1, 2, 3, 4, ...), 1 channel")
    assert out.splitlines()[1] == "digits-quick: 88,699 parameters, 88,699 of them trained"
    assert "time: about" in out
    assert "all axes   1400  tokens depth width" in out
    assert "4 x 8 x 48" in out
    assert "2,000 steps, 8,000 samples" in out
    assert "matrix products" in err
    assert list(tmp_path.iterdir()) == []


def test_a_plan_as_json(adap):
    code, out, err = adap("--dry-run", "--json", "--quiet", "--set", "batch=4", "--data", "folder:/none here")
    found = json.loads(out)
    assert (code, err, found["schema_version"]) == (0, "", 1)
    assert found["recipe"]["name"] == "images-quick"
    assert (found["data"], found["seconds"]) == (None, None)
    assert found["notes"][0].startswith("data: /none here: no such folder")
    assert found["peak_bytes"] > found["weight_bytes"] + found["optimiser_bytes"]
    assert [stage["name"] for stage in found["stages"]] == ["full", "all axes"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--teacher", "foo"],
            "error: --teacher: 'foo': expected self, in-place, ckpt:PATH, timm:NAME[@FILE] or hf:FOLDER",
        ),
        (["--data", "imagenet"], "error: --data: 'imagenet': expected digits or folder:PATH"),
        (["--set", "data=imagenet"], "error: --set data: 'imagenet': expected"),
        (["--set", "bach=1"], "error: --set bach: unknown key, did you mean 'batch'?"),
        (["--set", "batch"], "error: --set 'batch': expected key=value"),
    ],
)
def test_what_cannot_be_typed(adap, tmp_path, words, told):
    code, out, err = adap(*words, "--dry-run")
    assert (code, out) == (2, "")
    assert told in err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_ends_a_run(adap):
    code, out, err = adap("--data", "folder:none")
    assert (code, out) == (3, "")
    assert "error: none: no such folder" in err
