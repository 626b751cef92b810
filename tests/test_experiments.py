"""The script that compares training runs: every variant and seed once, finished runs not again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "experiments" / "compare.py"
PLAN = """
seeds: [0, 1]
changes: ["stages.0.steps=2", "evaluate_samples=64"]
variants:
  plain: {recipe: digits-single}
  taught: {recipe: digits-joint, changes: ["teacher={source: self}", "loss={labels: 0.5, distillation: 0.5}"]}
"""


def compare(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--runs", str(tmp_path / "runs")]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)


@pytest.mark.slow
def test_variants_are_trained_once_and_compared(tmp_path):
    (tmp_path / "plan.yaml").write_text(PLAN)
    first = compare(tmp_path)
    assert first.returncode == 0, first.stderr
    result = json.loads((tmp_path / "results.json").read_text())
    assert {name: entry["seeds"] for name, entry in result["variants"].items()} == {
        "plain": [0, 1],
        "taught": [0, 1],
    }
    assert "| plain |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "figure.png").stat().st_size > 5000
    again = compare(tmp_path)
    assert "done" in first.stdout
    assert "done" not in again.stdout


@pytest.mark.parametrize("folder", ["adaptivity", "curriculum", "distillation", "width"])
def test_the_plans_are_of_recipes_that_there_are(folder):
    import yaml

    from adapcli.training.recipe import load_recipe

    plan = yaml.safe_load((ROOT / "experiments" / folder / "plan.yaml").read_text())
    assert len(plan["seeds"]) >= 3
    steps = [
        load_recipe(variant["recipe"], (*plan.get("changes", ()), *variant.get("changes", ()))).total_steps
        for variant in plan["variants"].values()
    ]
    assert len(steps) >= 2
    assert len(set(steps)) == 1, "not at equal steps"


def script(name: str):
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("script", ROOT / "experiments" / name)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_alone_is_the_packaged_training_of_one_configuration():
    from adapcli.training.objective import draw_passes
    from adapcli.training.recipe import load_recipe

    alone, packaged = script("digits/alone.py"), load_recipe("digits")
    space = packaged.model_for(num_classes=10, in_channels=1).space
    for chosen in alone.corners(space).values():
        own = load_recipe("digits", alone.alone(packaged, chosen, packaged.total_steps))
        assert own.total_steps == packaged.total_steps
        kept = {"seed", "data", "batch", "accumulate", "model", "optimiser", "augment"}
        assert own.model_dump(include=kept) == packaged.model_dump(include=kept)
        (stage,) = own.stages
        (only,) = draw_passes(own.model_for(10, 1), stage, own.readouts_of(stage), 8, seed=0, number=0)
        assert (only.configuration, only.widths) == (chosen, None)
        assert (only.tokens, only.depth_tokens) == ((chosen.tokens,), ())
        assert not own.loss_of(stage).needs_teacher
    assert len(set(alone.corners(space).values())) == 3


def test_alone_compares_the_same_scenes_only(tmp_path):
    from types import SimpleNamespace

    alone = script("digits/alone.py")
    own = SimpleNamespace(metrics={"samples": 9, "data": "a", "accuracy_cheapest": 0.7})
    packaged = {"samples": 9, "data": "a", "accuracy_cheapest": 0.69}
    assert alone.beside(own, packaged, "cheapest")["gain_points"] == 1.0
    with pytest.raises(SystemExit, match="other scenes"):
        alone.beside(own, packaged | {"data": "b"}, "cheapest")


@pytest.mark.slow
def test_the_gap_is_written_with_its_intervals_and_nothing_is_trained_twice(
    make_table, tmp_path, monkeypatch
):
    from policies import registry
    from policies.field import entrant

    names = {"static", "threshold", "gate", "ppo"}
    left = {known.algo for known in entrant._KNOWN} - names
    monkeypatch.setattr(entrant, "_KNOWN", tuple(known for known in entrant._KNOWN if known.name in names))
    monkeypatch.setattr(entrant, "_LEFT_OUT", (*entrant._LEFT_OUT, *left))
    make_table(800).save(tmp_path / "run" / "table")
    experiment = script("0001_policy_gap/run.py")
    words = ["run.py", "--run", tmp_path / "run", "--work", tmp_path / "work", "--output", tmp_path / "out"]
    words += ["--seeds", 2, "--timesteps", 256, "--resamples", 20]
    monkeypatch.setattr(sys, "argv", [*map(str, words), "--only", "static", "gate"])
    experiment.main()
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(sys, "argv", [*map(str, words), "--split", "tune"])
    experiment.main()
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["name"] for row in found["field"]] == ["static", "threshold", "gate", "ppo"]
    assert found["reference"]["gap"] == pytest.approx(1)
    assert (found["split"], found["n"]) == ("tune", 200)
    for row in found["field"]:
        assert row["gap_low"] <= row["gap_high"]
    assert found["field"][3]["seeds"] == 2
    assert {"saving_full", "drop_upper_95_one_sided", "certified"} <= set(found["operating_point"])
    assert set(found["few_against_many"]) == {"soft_5000", "hard_20000", "soft_less_hard", "n"}
    for name in ("curves.png", "gap.png"):
        assert (tmp_path / "out" / name).stat().st_size > 5000
    before = (tmp_path / "out" / "results.json").read_bytes()

    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(registry, "train", refuse)
    experiment.main()
    assert (tmp_path / "out" / "results.json").read_bytes() == before
