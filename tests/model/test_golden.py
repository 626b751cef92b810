"""The published reference implementation's answers, for every case of every folder, in any order."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import adapcli
from adapcli import Configuration, ModelConfig
from adapcli.model.perceiver import AdaPerceiver

GOLDEN = Path(__file__).parent.parent / "golden"
FOLDERS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
TOLERANCE = 1e-5


def load_golden(name):
    folder = GOLDEN / name
    given = folder / "model_config.json"
    config = json.loads(given.read_text()) if given.exists() else None
    weights = folder / "checkpoint.pt"
    return adapcli.load(weights if weights.exists() else folder, model_config=config)


def run(model, case, x):
    full = model.full_configuration
    width = case.get("mat_dim", full.width)
    if "depth_tau" in case:
        tau, tokens = case["depth_tau"], case["num_tokens"]
        return adapcli.early_exit(model, x, tokens=tokens, width=width, confidence=tau, per="batch")
    per_sample = isinstance(width, list)
    configuration = Configuration(
        tokens=case["num_tokens"],
        width=full.width if per_sample else width,
        depth=case.get("depth", full.depth),
    )
    return model(
        x,
        configuration,
        widths=width if per_sample else None,
        granularities=case.get("token_grans"),
    )


def answers(out):
    named = {"features": out.features, "output": out.maps}
    return named | {"logits": None if out.logits is None else out.logits[:, None]}


def differences(case, out, expected):
    """{name: max |difference|} of everything the reference recorded for this case."""
    found = {}
    for name, ours in answers(out).items():
        theirs = expected.get(f"{case['key']}.{name}")
        if theirs is not None:
            assert ours.shape == theirs.shape, (case, name)
            found[name] = (ours - theirs).abs().max().item()
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FOLDERS)
@torch.no_grad()
def test_every_case_in_any_order_equals_the_published_answer(name, seed):
    model, expected = load_golden(name), load_file(GOLDEN / name / "expected.safetensors")
    calls = json.loads((GOLDEN / name / "cases.json").read_text()) * 2
    random.Random(seed).shuffle(calls)
    compared = set()
    for case in calls:
        found = differences(case, run(model, case, expected[case["input"]]), expected)
        assert found, case
        assert max(found.values()) <= TOLERANCE, (case, found)
        compared |= {f"{case['key']}.{part}" for part in found}
    assert compared == {key for key in expected if "." in key}  # nothing recorded was left out


def test_the_golden_folders_are_all_here():
    assert len(FOLDERS) == 8
    assert sum(len(json.loads((GOLDEN / name / "cases.json").read_text())) for name in FOLDERS) == 44


def test_a_batch_exits_together_after_the_published_number_of_blocks():
    model, expected = load_golden("cls_mlp"), load_file(GOLDEN / "cls_mlp" / "expected.safetensors")
    out = adapcli.early_exit(model, expected["x"], tokens=8, width=64, confidence=0.3, per="batch")
    assert len(set(out.depth.tolist())) == 1


def test_names_and_shapes_of_the_published_imagenet_model():
    published = json.loads((GOLDEN / "full_size_in1k_state.json").read_text())
    with torch.device("meta"):
        model = AdaPerceiver(ModelConfig.from_published(published["config"]))
    assert {name: list(t.shape) for name, t in model.state_dict().items()} == published["state"]
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 143.8


def test_flops_of_the_published_model_to_the_digit():
    published = json.loads((GOLDEN / "flops_full_size_in1k.json").read_text())
    config = ModelConfig.from_published(published["config"])
    assert len(published["rows"]) == 36
    for row in published["rows"]:
        configuration = Configuration(row["tokens"], row["width"], row["depth"])
        assert adapcli.flops(config, configuration, image_size=(224, 224)) == row["flops"], row


def test_flops_of_the_full_model_in_both_conventions():
    published = json.loads((GOLDEN / "flops_full_size_in1k.json").read_text())
    config = ModelConfig.from_published(published["config"])
    full = config.full_configuration
    assert round(adapcli.flops(config, full) / 1e9, 2) == 76.38
    assert round(adapcli.flops(config, full, attention="block") / 1e9, 2) == 74.52
