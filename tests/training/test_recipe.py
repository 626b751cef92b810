"""Recipes as files: what is wrong in one is told with its place."""

from pathlib import Path

import pytest

from adapcli.errors import UsageError
from adapcli.training.recipe import load_recipe

GOOD = (
    "name: mine\nmodel: {embed_dim: 16, num_heads: 2, widths: [8, 16]}\nstages:\n  - {name: full, steps: 3}\n"
)


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_gives_its_recipe(tmp_path: Path):
    recipe = load_recipe(written(tmp_path, GOOD))
    assert (recipe.name, recipe.total_steps, recipe.batch) == ("mine", 3, 128)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [unclosed\n", r"mine\.yaml:2: "),
        (GOOD + "stepz: 3\n", r"mine\.yaml:5: stepz: unknown key"),
        (GOOD + f"seed: {2**32}\n", r"mine\.yaml:5: seed: "),  # what a step draws leaves no room for more
        (GOOD + "optimiser: {learning_rat: 0.1}\n", "did you mean 'learning_rate'"),
        ("!!python/object/apply:os.system ['true']\n", r"mine\.yaml:1: could not determine a constructor"),
        ("a: &a [1]\nb: *a\n", "aliases are not allowed"),
        ("just text\n", "expected fields"),
        (GOOD.replace("steps: 3", "steps: 0"), r"stages\.0\.steps"),
        (GOOD + "batch: nan\n", "batch"),
        ("name: mine\nmodel: {}\nstages: []\n", "stages"),
        ("[" * 5000, "mine.yaml"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, message: str):
    with pytest.raises(UsageError, match=message):
        load_recipe(written(tmp_path, text))


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(UsageError) as caught:
        load_recipe("digit-quick")
    assert "digits-quick" in caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"absent\.yaml"):
        load_recipe(str(tmp_path / "absent.yaml"))
