"""Who steps what, schedules, clipping, averages, and every optimiser resumed bit for bit."""

import functools
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from adapcli.data.dataset import Batch
from adapcli.errors import AdapError, UnavailableError
from adapcli.model.precision import autocast
from adapcli.space import Configuration
from adapcli.training.loop import Trainer
from adapcli.training.optimisation import Optimisation, optimisers, schedule
from adapcli.training.run import train
from adapcli.training.schema import Optimiser, Recipe

NAMES = ["adamw", "muon", "soap"]
MODEL = {
    "embed_dim": 16,
    "num_heads": 2,
    "depth": 2,
    "max_latent_tokens": 4,
    "token_granularities": [1, 2, 4],
}
MODEL |= {
    "widths": [8, 16],
    "image_size": 32,
    "patch_size": 8,
    "use_embed_ffn": False,
    "layer_scale_init": 0.5,
}


def recipe(steps=6, **changes) -> Recipe:
    stages = [
        {"name": "full", "steps": 2},
        {"name": "all", "steps": steps - 2, "axes": ["tokens", "depth", "width"]},
    ]
    values = {
        "name": "tiny",
        "model": MODEL,
        "batch": 6,
        "stages": stages,
        "evaluate_samples": 8,
        "save_every": 1,
    }
    return Recipe(**{**values, **changes})


class Noise:
    """A feed of noise."""

    def batch(self, number: int) -> Batch:
        generator = torch.Generator().manual_seed(number)
        labels = torch.randint(7, (6,), generator=generator)
        return Batch(torch.randn(6, 1, 16, 16, generator=generator), labels, [])


def parameters(found: torch.optim.Optimizer) -> set[int]:
    return {id(p) for group in found.param_groups for p in group["params"]}


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_stepped_once(make_model, name):
    model = make_model()
    stepped = [
        p for o in optimisers(model, Optimiser(name=name)) for g in o.param_groups for p in g["params"]
    ]
    assert len(stepped) == len({id(p) for p in stepped}) == len(list(model.parameters()))


def test_muon_steps_the_matrices_of_blocks_and_nothing_else(make_model):
    model = make_model()
    muon, adamw = optimisers(model, Optimiser(name="muon"))
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[p] for p in parameters(muon)} == {
        f"blocks.{block}.{part}.weight"
        for block in range(3)
        for part in ("attn.q", "attn.k", "attn.v", "attn.proj", "ffn.fc1", "ffn.fc2")
    }
    others = {names[p] for p in parameters(adamw)}
    assert {"patch_embed.pos_embed", "process_latents.token", "read_head.cattn.q.weight"} <= others


@pytest.mark.parametrize("name", NAMES)
def test_what_is_frozen_stays_and_the_rest_decays_but_for_vectors(make_model, name):
    model = make_model()
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    options = {"name": name, "weight_decay": 0.5, "learning_rate": 0.1, "warmup_steps": 0}
    made = Optimisation(model, recipe(optimiser=options, train=("output_adapter", "read_head")))
    for _ in range(2):  # soap only looks in its first
        for p in made.trained:
            p.grad = torch.zeros_like(p)
        made.step()
    for key, p in model.named_parameters():
        decayed = key.startswith(("output_adapter", "read_head")) and p.ndim > 1
        assert torch.equal(p, before[key]) is not decayed, key


def test_training_nothing_is_refused(make_model):
    with pytest.raises(AdapError, match="no parameter's name begins with head"):
        Optimisation(make_model(), recipe(train=("head",)))


@pytest.mark.parametrize(("name", "missing"), [("soap", "pytorch_optimizer"), ("muon", "torch.optim.Muon")])
def test_an_optimiser_that_is_not_there_is_named(make_model, monkeypatch, name, missing):
    if name == "soap":
        monkeypatch.setitem(sys.modules, missing, None)
    else:
        monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UnavailableError, match=f"optimiser {name}"):
        optimisers(make_model(), Optimiser(name=name))


@pytest.mark.parametrize("name", NAMES)
def test_each_optimiser_lowers_a_loss(make_model, name):
    model, target = make_model(), torch.zeros(8, dtype=torch.int64)
    images = torch.randn(8, 1, 16, 16)
    options = {"name": name, "learning_rate": 3e-3, "warmup_steps": 0, "schedule": "constant"}
    made, losses = Optimisation(model, recipe(steps=30, optimiser=options)), []
    for _ in range(20):
        made.zero_grad()
        loss = nn.functional.cross_entropy(model(images).logits, target)
        loss.backward()
        made.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_adamw_clips_and_steps_as_plain_torch_does(make_model):
    ours, plain = make_model(), make_model()
    options = Optimiser(
        learning_rate=0.01, weight_decay=0.0, clip_norm=0.1, warmup_steps=0, schedule="constant"
    )
    made = Optimisation(ours, recipe(optimiser=options))
    rival = AdamW(plain.parameters(), lr=0.01, weight_decay=0.0, betas=options.betas)
    images = torch.randn(4, 1, 16, 16)
    for _ in range(3):
        made.zero_grad()
        ours(images).logits.square().mean().backward()
        norm = made.step()
        rival.zero_grad()
        plain(images).logits.square().mean().backward()
        expected = nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        rival.step()
        assert norm == pytest.approx(float(expected), rel=1e-5)
    for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_a_step_of_muon_is_of_the_size_of_adamws(make_model):
    """AdamW's first step is of size 1 per entry, later ones of 0.2 to 0.4; Muon's are of 0.2."""
    sizes = {}
    for name in ("adamw", "muon"):
        model = make_model(embed_dim=48, widths=(24, 48), num_heads=2)
        before = model.blocks[0].ffn.fc1.weight.detach().clone()
        options = {"name": name, "learning_rate": 0.01, "weight_decay": 0, "warmup_steps": 0}
        made = Optimisation(model, recipe(optimiser=options | {"schedule": "constant"}))
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
        made.step()
        step = model.blocks[0].ffn.fc1.weight.detach() - before
        sizes[name] = step.square().mean().sqrt().item() / 0.01
    assert sizes["adamw"] == pytest.approx(1, rel=0.01)
    assert 0.1 < sizes["muon"] < 0.4


@pytest.mark.parametrize("warmup", [False, True])
def test_averages_equal_those_by_hand(make_model, warmup):
    model = make_model()
    options = {"ema_decay": 0.9, "ema_warmup": warmup, "learning_rate": 0.1}
    made = Optimisation(model, recipe(optimiser=options))
    by_hand = None
    for done in range(12):
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        made.step()
        now = [p.detach().clone() for p in model.parameters()]
        decay = min(0.9, (1 + done) / (10 + done)) if warmup else 0.9
        if by_hand is None:
            by_hand = now  # the first average is what is averaged
        else:
            by_hand = [decay * old + (1 - decay) * new for old, new in zip(by_hand, now, strict=True)]
    for p, q in zip(made.averaged.parameters(), by_hand, strict=True):
        torch.testing.assert_close(p, q)
    assert not made.averaged.training


@pytest.mark.parametrize(
    ("kind", "middle"), [("cosine", 0.1 + 0.9 * 0.5), ("poly", 0.1 + 0.9 * 0.5**2), ("constant", 1.0)]
)
def test_schedules_start_high_and_end_where_they_should(kind, middle):
    options = Optimiser(schedule=kind, power=2, final_share=0.1, warmup_steps=10)
    shares = [schedule(step, 100, options) for step in range(101)]
    assert shares[:3] == pytest.approx([0.1, 0.2, 0.3], rel=0.05)
    assert shares[50] == pytest.approx(middle)
    assert shares[100] == pytest.approx(1.0 if kind == "constant" else 0.1)
    assert shares[10:] == sorted(shares[10:], reverse=True)


def test_passes_accumulated_equal_one_larger_batch(make_model, tmp_path):
    class Halves(Noise):
        def batch(self, number):
            whole = Noise().batch(number // 2)
            half = slice(3 * (number % 2), 3 * (number % 2) + 3)
            return Batch(whole.images[half], whole.targets[half], [])

    stages = [{"name": "full", "steps": 3}]
    whole, halves = make_model(), make_model()
    Trainer(recipe(stages=stages), whole, Noise(), tmp_path / "a", lambda m: {}).run()
    Trainer(
        recipe(stages=stages, accumulate=2, batch=3), halves, Halves(), tmp_path / "b", lambda m: {}
    ).run()
    for p, q in zip(whole.parameters(), halves.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-4, rtol=1e-3)


class Stop(BaseException):
    """Stands for a crash at a chosen moment."""


HARD = {
    "accumulate": 2,
    "loss": {"labels": 1.0, "label_smoothing": 0.1, "distillation": 0.5, "temperature": 2.0},
    "teacher": {"source": "self"},
    "augment": {"crop": 0.5, "flip": 0.5, "randaugment": 1, "mixup": 0.8, "cutmix": 1.0, "erasing": 0.3},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", [1, 4])
def test_an_interrupted_run_of_everything_equals_an_uninterrupted_one(tmp_path: Path, name: str, step: int):
    options = {"name": name, "ema_decay": 0.9, "ema_warmup": True, "warmup_steps": 2}
    chosen = recipe(optimiser=options, **HARD)

    def crash(done, total, note=""):
        if done == step + 1:  # the step after the last that was saved is done again
            raise Stop

    whole = train(chosen, tmp_path / "whole", test_samples=8).model.state_dict()
    with pytest.raises(Stop):
        train(chosen, tmp_path / "cut", test_samples=8, progress=crash)
    cut = train(chosen, tmp_path / "cut", resume=True, test_samples=8).model.state_dict()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_bfloat16_trains_weights_that_stay_float32(tmp_path):
    exact = train(recipe(), tmp_path / "a", test_samples=8).model
    rough = train(recipe(dtype="bfloat16", checkpointing=True), tmp_path / "b", test_samples=8).model
    assert {p.dtype for p in rough.parameters()} == {torch.float32}
    with autocast(torch.device("cpu"), torch.float32), torch.no_grad():
        x = torch.randn(2, 1, 32, 32)
        logits = [model(x, Configuration(4, 16, 2)).logits for model in (exact, rough)]
    assert not torch.equal(*logits)
    torch.testing.assert_close(*logits, atol=0.05, rtol=0.05)


def test_the_learning_rate_is_a_number_of_every_step():
    assert all(math.isfinite(schedule(step, 1, Optimiser(warmup_steps=0))) for step in range(2))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")
def test_compiled_blocks_train_to_the_same_weights_up_to_rounding(tmp_path, monkeypatch):
    # Traced and differentiated as always; generating C++ (tried in a sweep's test) takes a minute more.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    short = recipe(model={**MODEL, "depth": 1}, stages=[{"name": "full", "steps": 2}])
    try:
        compiled = train(short.model_copy(update={"compile": True}), tmp_path / "a", test_samples=8).model
    except UnavailableError as error:
        pytest.skip(str(error))
    plain = train(short, tmp_path / "b", test_samples=8).model
    for p, q in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-3, rtol=1e-2)


def test_without_a_compiler_compile_is_refused(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no compiler")

    from adapcli.model import compilation

    compilation._try_out.cache_clear()
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(UnavailableError, match="no compiler"):
        train(recipe(compile=True), tmp_path, test_samples=8)
    compilation._try_out.cache_clear()
