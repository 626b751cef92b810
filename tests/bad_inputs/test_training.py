"""Recipes that are wrong, and training that cannot go on, as `adap train` meets them."""

import functools
import json
import pickle
from pathlib import Path

import pytest
import torch

from adapcli.training import engine, loop
from adapcli.training import run as training

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
GOOD = """name: x
model: {embed_dim: 16, num_heads: 2, widths: [8, 16], image_size: 16, patch_size: 8}
stages:
  - {name: full, steps: 3}
"""


@pytest.fixture
def train(adap, monkeypatch):
    """`adap train`, scoring 40 scenes at the end."""
    monkeypatch.setattr(training, "train", functools.partial(training.train, test_samples=40))
    return lambda *words: adap("train", *words)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: [unclosed\n", "r.yaml:2: "),
        ("\tname: x\n", "r.yaml:1: "),
        (GOOD + "epoch: 3\n", "r.yaml:5: epoch: unknown key"),
        (GOOD + "optimiser:\n  learning_rat: 0.1\n", "r.yaml:6: optimiser.learning_rat: unknown key, did"),
        (GOOD.replace("embed_dim", "embed_dims"), "r.yaml:2: model.embed_dims: unknown key, did you mean"),
        (GOOD.replace("embed_dim: 16", "embed_dim: '16'"), "r.yaml:2: model.embed_dim"),
        (GOOD.replace("embed_dim: 16", "embed_dim: 1000000000"), "r.yaml:2: model.embed_dim: Input"),
        (GOOD.replace("image_size: 16", "image_size: big"), "r.yaml:2: model.image_size: Input should"),
        (GOOD.replace("num_heads: 2", "num_heads: 3"), "r.yaml:2: model: embed_dim 16: not 2 * num_heads"),
        (GOOD.replace("model: {", "model: [] #"), "r.yaml:2: model: Input should be a valid dictionary"),
        (GOOD.replace("model: {", "modul: {"), "r.yaml:2: modul: unknown key, did you mean 'model'"),
        (GOOD.replace("steps: 3", "steps: -1"), "r.yaml:4: stages.0.steps"),
        (GOOD + "seed: 1180591620717411303424\n", "r.yaml:5: seed"),
        (GOOD + "batch: 0\n", "r.yaml:5: batch"),
        (GOOD + "batch: .nan\n", "r.yaml:5: batch"),
        (GOOD + "data: imagenet\n", "r.yaml:5: data: 'imagenet': expected digits or folder:PATH"),
        ("!!python/object/apply:pathlib.Path.touch ['ran']\n", "r.yaml:1: could not determine a constructor"),
        (BOMB, "r.yaml:2: aliases are not allowed"),
        ("[" * 20_000, "r.yaml"),
        ("", "r.yaml: expected fields"),
        ("just text\n", "r.yaml: expected fields"),
        ("1: 2\n" + GOOD, "r.yaml: expected fields"),
        ("[1]: 2\n", "r.yaml:1: found unhashable key"),
        ("name: 2026-13-45\n", "r.yaml: month must be in 1..12"),
        ("name: \x00\n", "r.yaml"),
    ],
)  # fmt: skip
def test_a_wrong_recipe(train, tmp_path, text, told):
    (tmp_path / "r.yaml").write_text(text)
    train("--recipe", "r.yaml").refused(2, told)
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("digit", "did you mean 'digits'?"),
        ("imagenet", ", in12k-distil, in1k-finetune, nyuv2-depth, or a .yaml file"),
        ("none.yaml", "none.yaml: cannot be read: No such file or directory"),
        ("folder.yaml", "folder.yaml: cannot be read: Is a directory"),
        ("binary.yaml", "binary.yaml: cannot be read"),
        ("large.yaml", "large.yaml: larger than a recipe can be"),
    ],
)
def test_recipes_that_are_not_there(train, tmp_path, name, told):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large.yaml").write_text("#" * 2_000_000)
    train("--recipe", name).refused(2, told)
    assert not (tmp_path / "adap-run").exists()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--seed", str(2**70)], 2, "expected a whole number from 0 to 4294967295"),
        (["--seed", "-1"], 2, "expected a whole number from 0"),
        (["--threads", "0"], 2, "expected a whole number from 1 to 1024"),
        (["--threads", "9999"], 2, "expected a whole number from 1 to 1024"),
        (["--device", "cudaa"], 2, "allowed are auto, cpu, cuda, cuda:N"),
        (["--resume", "--overwrite"], 2, "exclude each other"),
        (["--epochs", "-1"], 2, "No such option: --epochs"),
    ],
)
def test_options_out_of_range(train, recipe, tmp_path, words, code, told):
    train("--recipe", recipe, *words).refused(code, told)
    assert not (tmp_path / "adap-run").exists()


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(train, recipe, tmp_path, monkeypatch):
    whole, calls = engine.pass_losses, []

    def pass_losses(*arguments, **named):
        calls.append(1)
        losses = whole(*arguments, **named)
        if len(calls) == 3:
            object.__setattr__(losses, "total", losses.total * float("nan"))
        return losses

    monkeypatch.setattr(engine, "pass_losses", pass_losses)
    ended = train("--recipe", recipe)
    ended.refused(1, "the loss became nan at step 2", "the last good state is in adap-run/train")
    state = torch.load(tmp_path / "adap-run/train/state.pt", weights_only=True)
    assert state["step"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())


@pytest.fixture
def interrupted(train, recipe, tmp_path, monkeypatch):
    """The folder of a run that was stopped after two of four steps."""

    def stop(self, recent):
        whole(self, recent)
        if self.step == 2:
            raise KeyboardInterrupt

    whole = loop.Trainer._keep_up
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_keep_up", stop)
        assert train("--recipe", recipe).code == 130
    return tmp_path / "adap-run/train"


def test_an_interrupted_run_is_kept_unless_told(train, recipe, interrupted):
    ended = train("--recipe", recipe)
    ended.refused(2, "adap-run/train holds results already", "--resume to go on or --overwrite")


def test_another_recipe_does_not_resume(train, recipe, interrupted, contents):
    recipe.write_text(recipe.read_text().replace("batch: 8", "batch: 16"))
    before = contents(interrupted)
    train("--recipe", recipe, "--resume").refused(3, "made by another recipe: batch differ", "--overwrite")
    train("--recipe", recipe, "--resume", "--seed", 3).refused(3, "batch, seed differ")
    assert contents(interrupted) == before


def test_a_torn_log_is_mended(train, recipe, interrupted):
    log = interrupted / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-7])
    assert train("--recipe", recipe, "--resume").code == 0
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()][-1] == 4


class Payload:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("how", ["cut", "text", "empty", "payload", "pickle", "other", "unfit"])
def test_a_damaged_state_is_refused_and_never_run(train, recipe, interrupted, tmp_path, contents, how):
    state = interrupted / "state.pt"
    if how == "cut":
        state.write_bytes(state.read_bytes()[:-100])
    elif how in ("text", "empty"):
        state.write_text("state" if how == "text" else "")
    elif how == "payload":
        torch.save({"format": Payload(tmp_path / "ran")}, state)
    elif how == "pickle":
        state.write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    elif how == "other":
        torch.save({"weights": torch.zeros(3)}, state)
    else:
        content = torch.load(state, weights_only=True)
        content["model"] = {"x": torch.zeros(3)}
        torch.save(content, state)
    before = contents(interrupted)
    train("--recipe", recipe, "--resume").refused(3, "state.pt")
    assert contents(interrupted) == before
    assert not (tmp_path / "ran").exists()
