"""A rehearsal on tensors without data tells what really runs: FLOPs, memory, shapes."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from adapcli.errors import UsageError
from adapcli.measure.memory import peak_bytes
from adapcli.model.checkpoint import load, packaged
from adapcli.model.flops import flops
from adapcli.training.dryrun import Plan, optimiser_values, plan
from adapcli.training.losses import Targets
from adapcli.training.objective import draw_passes, pass_losses
from adapcli.training.optimisation import Optimisation
from adapcli.training.recipe import load_recipe
from adapcli.training.source import open_source
from adapcli.training.start import start

QUICK = ("batch=16",)


def planned(*changes: str, name: str = "digits-quick") -> Plan:
    return plan(load_recipe(name, [*QUICK, *changes]))


def test_forward_flops_are_those_of_the_formula():
    (full, _), config = planned().stages, planned().config
    each = flops(config, config.full_configuration, readout="folded", attention="dense")
    fold = full.forward_flops - 16 * each  # the readout is folded once a batch
    assert 0 <= fold < 0.02 * 16 * each
    assert full.backward_flops / full.forward_flops == pytest.approx(2, abs=0.1)
    assert (full.latents, full.token_logits, full.depth_logits) == ((16, 8, 48), (16, 1, 10), ())


def test_a_step_costs_what_its_passes_do():
    (once,) = planned(name="digits-joint").stages
    (explicit,) = planned("readouts.width=explicit", name="digits-joint").stages
    (twice,) = planned("accumulate=2", name="digits-joint").stages
    assert (once.passes, explicit.passes, twice.passes) == (1, 2, 2)
    assert once.forward_flops < explicit.forward_flops < 2 * once.forward_flops  # one of them is narrow
    assert (twice.forward_flops, twice.kept_bytes) == (2 * once.forward_flops, once.kept_bytes)


def test_checkpointing_runs_the_blocks_again_and_keeps_less():
    plain, saving = planned().stages[1], planned("checkpointing=true").stages[1]
    again = saving.backward_flops - plain.backward_flops
    assert 0.5 * plain.forward_flops < again < plain.forward_flops
    assert saving.kept_bytes == plain.checkpointed_bytes < plain.kept_bytes == plain.plain_bytes


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_what_a_real_step_holds(checkpointing: bool):
    recipe = load_recipe("digits", ["batch=64", f"checkpointing={checkpointing}"])
    stage, model = recipe.stages[1], start(recipe, open_source(recipe)).model
    (chosen,) = draw_passes(model.config, stage, recipe.readouts, 64, seed=0, number=0)
    x, targets = torch.randn(64, 1, 32, 32), Targets(torch.zeros(64, dtype=torch.int64))

    def step() -> None:
        losses = pass_losses(
            model, x, targets, chosen, recipe.loss, recipe.readouts, checkpointing=checkpointing
        )
        losses.total.backward()

    gradients = sum(4 * p.numel() for p in model.parameters())
    told = plan(recipe).stages[1].kept_bytes
    assert 0.75 * told < peak_bytes(step, torch.device("cpu")) < 1.25 * told + gradients


def test_frozen_parameters_have_no_backward_pass_and_no_state():
    whole, head = planned(), planned("train=[output_adapter]")
    assert head.trained == 48 * 10 + 10
    assert head.stages[1].backward_flops < 0.02 * whole.stages[1].backward_flops
    assert head.optimiser_bytes == 8 * head.trained


@pytest.mark.parametrize("name", ["adamw", "muon", "soap"])
def test_optimisers_keep_what_is_told(name: str):
    if name == "soap":
        pytest.importorskip("pytorch_optimizer")
    recipe = load_recipe("digits-quick", [*QUICK, f"optimiser.name={name}"])
    model = start(recipe, open_source(recipe)).model
    optimisation = Optimisation(model, recipe)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimisation.step()
    values = sum(numbers(optimiser["state"]) for optimiser in optimisation.state_dict()["optimisers"])
    assert sum(optimiser_values(name, *each) for each in model.named_parameters()) == values


def numbers(state: object) -> int:
    """In all tensors of a nest, counters apart."""
    if isinstance(state, torch.Tensor):
        return state.numel() if state.ndim else 0
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list) else []
    return sum(map(numbers, inner))


def test_samples_steps_and_epochs(tmp_path: Path):
    for index in range(12):
        for part in ("train", "test"):
            picture = tmp_path / part / "ab"[index % 2] / f"{index}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (32, 32), index).save(picture)
    found = planned(f"data=folder:{tmp_path}", "accumulate=2")
    assert (found.steps, found.samples) == (2000, 2000 * 2 * 16)
    assert found.epochs == pytest.approx(2000 * 2 * 16 / 12)
    assert planned().epochs is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "trained"),
    [
        ("in12k-distil", None, None),
        ("in1k-finetune", 143_845_092, 833 * 1000 + 832 + 4 * 832 * 833 + 4 * 832),
    ],
)
def test_the_published_settings_can_be_planned_here(name: str, parameters: int, trained: int):
    found = plan(load_recipe(name))
    assert found.parameters == (parameters or found.trained)
    assert found.trained == (trained or found.parameters)
    assert any(note.startswith("data: imagenet-1") for note in found.notes)
    assert found.stages[-1].token_logits[:2] == (128, 6)
    assert found.stages[-1].depth_logits[1] == 20
    assert found.stages[-1].passes == 8


def test_what_is_not_there_is_told_and_what_is_wrong_refused(tmp_path: Path):
    notes = planned("data=folder:/absent", "teacher.source=ckpt:none.pt", "loss.distillation=1").notes
    assert "/absent: no such folder; planned with 1000 classes and 3 channels" in notes[0]
    assert "teacher ckpt:none.pt: its own cost is not counted; it is not there" in notes[1]
    known = load(packaged()).config
    each = flops(known, known.space.cheapest, readout="folded", attention="block")
    at = "teacher.at={tokens: 1, width: 16, depth: 1}"
    taught = ("teacher.source=ckpt:packaged", at, "loss.distillation=1")
    (note,) = planned(*taught, "batch=1000", "accumulate=3").notes
    assert note == f"teacher ckpt:packaged: {each * 3000 / 1e9:.3g} GFLOPs a step, not counted below"
    assert "start: none.pt: no such file" in planned("start=none.pt").notes[0]
    with pytest.raises(UsageError, match="no parameter's name begins with 'writehead'"):
        planned("train=[writehead]")
