"""Recipes as files: what is wrong in one is told with its place."""

from pathlib import Path

import pytest

from adapcli.errors import UsageError
from adapcli.training.recipe import as_yaml, load_recipe, packaged_recipes

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


@pytest.mark.parametrize("name", packaged_recipes())
def test_packaged_recipes_are_read_and_printed_whole(tmp_path: Path, name: str):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert load_recipe(written(tmp_path, as_yaml(recipe))) == recipe


def test_the_recipes_for_experiments_differ_in_their_stages_alone():
    names = ["digits-curriculum", "digits-joint", "digits-full-first", "digits-single"]
    recipes = [load_recipe(name) for name in names]
    assert {recipe.total_steps for recipe in recipes} == {3000}
    rest = [recipe.model_dump(exclude={"name", "description", "stages"}) for recipe in recipes]
    assert all(other == rest[0] for other in rest)


@pytest.mark.parametrize(
    ("change", "place", "value"),
    [
        ("seed=3", ["seed"], 3),
        ("optimiser.learning_rate=1e-4", ["optimiser", "learning_rate"], 1e-4),
        ("optimiser.betas=[0.9, 0.99]", ["optimiser", "betas"], (0.9, 0.99)),
        ("stages.0.steps=7", ["stages", 0, "steps"], 7),
        ("stages.0.loss.label_smoothing=0.1", ["stages", 0, "loss", "label_smoothing"], 0.1),
        ("readouts.width=sandwich", ["readouts", "width"], "sandwich"),
        ("model.layer_scale_init=1e-6", ["model", "layer_scale_init"], 1e-6),
        ("train=[output_]", ["train"], ("output_",)),
        ("data=folder:a b", ["data"], "folder:a b"),
    ],
)
def test_a_field_is_set_where_its_key_says(tmp_path: Path, change: str, place: list, value: object):
    found = load_recipe(written(tmp_path, GOOD), [change]).model_dump()
    for part in place:
        found = found[part]
    assert found == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("batch", r"--set 'batch': expected key=value"),
        ("=3", "expected key=value"),
        ("batch=0", "--set batch: Input should be greater"),
        ("optimizer.name=adamw", "--set optimizer: unknown key, did you mean 'optimiser'"),
        ("optimiser.nam=adamw", "--set optimiser.nam: unknown key, did you mean 'name'"),
        ("stages.5.steps=1", "--set stages.5.steps: no '5' there"),
        ("stages.5={}", "--set stages.5: there are 1, counted from 0"),
        ("name.x=1", "--set name.x: name holds no fields"),
        ("seed.x.y=1", "--set seed"),
        ("stages=[", r"--set stages:\d+: "),
        ("stages=!!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("model.embed_dim=17", "embed_dim 17: not 2"),
        ("loss.distillation=1", "needs a teacher"),
        (
            "teacher.source=nobody",
            "'nobody': expected self, in-place, ckpt:PATH, timm:NAME.@FILE. or hf:FOLDER",
        ),
        ("data=", "data"),
        ("stages.0.axes=[tokens, colour]", "stages.0.axes"),
        ("stages.0.at.tokens=3", "tokens"),
        ("readouts.token_weights=[1, 2]", "token_weights: 2 for 6 granularities"),
        ("model.task=segmentation", "model"),
    ],
)
def test_a_change_that_cannot_be_is_told(tmp_path: Path, change: str, message: str):
    with pytest.raises(UsageError, match=message):
        load_recipe(written(tmp_path, GOOD), [change])


def test_without_a_mask_one_pass_does_not_serve_every_token_count():
    with pytest.raises(UsageError, match="mask none: the first tokens of a run are no run of their own"):
        load_recipe("digits-joint", ["model.mask=none"])
    load_recipe("digits-joint", ["model.mask=none", "stages.0.axes=[depth, width]"])
    load_recipe("digits-joint", ["model.mask=causal"])


def test_with_a_checkpoint_the_models_fields_are_checked_by_name_alone(tmp_path: Path):
    text = (
        "name: x\nstart: packaged\nmodel:\n  embed_dims: 3\nstages: [{name: a, steps: 1, at: {tokens: 9}}]\n"
    )
    with pytest.raises(
        UsageError, match=r"mine\.yaml:4: model\.embed_dims: unknown key, did you mean 'embed_dim'"
    ):
        load_recipe(written(tmp_path, text))
    assert load_recipe(written(tmp_path, text.replace("embed_dims", "embed_dim"))).model == {"embed_dim": 3}
    with pytest.raises(UsageError, match="model: needed without a checkpoint"):
        load_recipe(written(tmp_path, "name: x\nstages: [{name: a, steps: 1}]\n"))
