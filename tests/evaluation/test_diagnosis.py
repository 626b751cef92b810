"""Each failure signature is injected into a healthy model, and found; the healthy one is not blamed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapcli.data.dataset import open_dataset
from adapcli.errors import FileError, UsageError
from adapcli.evaluation.calibration import reliability
from adapcli.evaluation.diagnosis import answers, latents
from adapcli.evaluation.diagnosis.check import Check, Diagnosis
from adapcli.evaluation.diagnosis.diagnose import diagnose, repeated
from adapcli.evaluation.diagnosis.memory import memory
from adapcli.model.checkpoint import load, packaged
from adapcli.model.rope import rotation
from adapcli.sweep.samples import Samples
from adapcli.sweep.sweep import Sweep

NAMES = [
    "low tokens",
    "specialisation",
    "widths",
    "beyond trained tokens",
    "prefix",
    "calibration",
    "memory",
    "memory in training",
]


@pytest.fixture(scope="module")
def data():
    return open_dataset("digits", split="test", preprocessing=load(packaged()).preprocessing, limit=600)


@pytest.fixture(scope="module")
def batch(data):
    return data.batch(0, 256)


@pytest.fixture
def model():
    return load(packaged())


@pytest.fixture
def score(data, tmp_path):
    """A table of a model on 600 scenes, few configurations."""

    def run(model):
        space = model.config.space.restrict(tokens=(1, 16), widths=(16, 64), depths=(1, 6))
        samples = Samples({"test": data}, {"name": "digits", "seed": 0})
        return Sweep(model, samples, space).run(tmp_path / "table")

    return run


def step_of(model, images):
    def step(size):
        model(repeated(images, size)).logits.sum().backward()

    return step


def test_a_healthy_model_passes_every_check(model, score, batch):
    checks = diagnose(
        model, score(model), batch.images, batch.targets, train_step=step_of(model, batch.images)
    )
    assert [check.name for check in checks] == NAMES
    assert [check.verdict for check in checks if check.warning] == []
    assert all(check.limit.startswith("warns ") for check in checks)
    json.dumps([check.numbers for check in checks], allow_nan=False)


def test_collapse_at_low_tokens_is_found(model, score):
    """A first token that reads the same of every image; later ones read as before."""
    whole = model.read_from

    def read_from(source, rotation):
        z = whole(source, rotation)
        return torch.cat([z[:, :1].mean(0, keepdim=True).expand(len(z), 1, -1), z[:, 1:]], 1)

    model.read_from = read_from
    check = answers.low_tokens(score(model))
    assert check.warning
    assert check.numbers["kept"] < 0.2
    assert check.numbers["accuracy"]["16"] > 0.6


def test_a_model_that_only_guesses_is_told_so(make_model, make_table):
    table = make_table(400)
    guessing = np.random.default_rng(0).random(table.score.shape) < 0.2
    check = answers.low_tokens(with_confidence(replace(table, score=guessing.astype(np.float32))))
    assert check.warning
    assert "itself is at chance" in check.verdict


def with_confidence(table, sure=0.5):
    signals = np.full((*table.score.shape, 1), sure, np.float32)
    return replace(table, signals=signals, signal_names=("confidence",))


def test_tokens_that_are_all_equal_are_found(model, batch):
    with torch.no_grad():
        model.read_head.cattn.q.weight.zero_()  # no position reads anything else than the others
        model.read_head.cattn.q.bias.zero_()
    check = latents.specialisation(model, batch.images)
    assert check.warning
    assert check.numbers["distinct"] == pytest.approx(1, abs=1e-3)


def test_tokens_that_were_never_trained_are_found(batch, model):
    torch.manual_seed(0)
    fresh = type(model)(model.config, preprocessing=model.preprocessing).eval()
    check = latents.specialisation(fresh, batch.images)
    assert check.warning
    assert check.numbers["distinct"] < 2


@settings(max_examples=20, deadline=None)
@given(tokens=st.integers(1, 8), distinct=st.integers(1, 8), scale=st.floats(0.1, 10))
def test_distinct_tokens_counts_them(tokens, distinct, scale):
    """k independent tokens, each there as often: k, whatever their scale and what all images share."""
    torch.manual_seed(0)
    base = torch.randn(4000, distinct, 3)
    z = scale * base.repeat_interleave(tokens, dim=1) + torch.randn(1, distinct * tokens, 3)
    assert latents.distinct_tokens(z) == pytest.approx(distinct, rel=0.02)


def test_tokens_that_never_vary_count_as_one():
    assert latents.distinct_tokens(torch.ones(5, 4, 2)) == 1.0


def test_a_wider_configuration_that_loses_is_found(model, score):
    hidden, units = model.config.hidden(16), model.blocks[0].ffn.fc2.weight.shape[1]
    with torch.no_grad():
        for block in model.blocks:
            block.ffn.fc2.weight[:, hidden:] = torch.randn(len(block.ffn.fc2.weight), units - hidden)
    check = answers.widths(score(model))
    worst = check.numbers["worst"]
    assert check.warning
    assert (worst["wider"], worst["narrower"]) == (64, 16)
    assert worst["high"] < 0


def test_widths_that_differ_by_luck_alone_are_not_blamed(make_table):
    """Equal abilities: with 95 % for all pairs together, hardly ever a warning."""
    blamed = 0
    for seed in range(40):
        table = make_table(200, seed=seed)
        hits = np.random.default_rng(seed).random(table.score.shape) < 0.7
        blamed += answers.widths(with_confidence(replace(table, score=hits.astype(np.float32)))).warning
    assert blamed <= 4


def test_one_width_leaves_nothing_to_compare(make_table):
    check = answers.widths(with_confidence(make_table(40, widths=(8,))))
    assert (check.warning, check.numbers["pairs"]) == (False, 0)


def test_failure_beyond_the_trained_tokens_is_found(model, batch):
    """Frequencies that explode in longer runs."""
    whole, trained = model.rotation, model.config.max_latent_tokens

    def turned(tokens):
        if tokens <= trained:
            return whole(tokens)
        c = model.config
        found = rotation(tokens, c.head_dim, theta=c.rope_theta, trained_tokens=tokens, device=model.device)
        return found[:, torch.randperm(tokens, generator=torch.Generator().manual_seed(0))] * 10

    model.rotation = turned
    check = latents.beyond_trained(model, batch.images, batch.targets)
    assert check.warning
    assert set(check.numbers["accuracy"]) == {"16", "32", "64"}
    assert check.numbers["accuracy"]["16"] > 0.8


def test_a_broken_prefix_is_found(model, batch):
    def leak(_module, _inputs, z):
        return z + 1e-2 * z.mean(1, keepdim=True)  # each token hears of all, later ones too

    model.blocks[2].register_forward_hook(leak)
    check = latents.prefix(model, batch.images[:8])
    assert check.warning
    assert check.numbers["max_abs"]["16"] == 0


def test_a_model_without_a_mask_has_no_prefix_property(make_model):
    model = make_model(mask="none")
    check = latents.prefix(model, torch.randn(4, 1, 16, 16))
    assert check.warning
    assert "with mask none it cannot hold" in check.verdict
    assert not latents.prefix(make_model(), torch.randn(4, 1, 16, 16)).warning


def test_nan_latents_do_not_pass(make_model):
    model = make_model()
    with torch.no_grad():
        model.blocks[0].ffn.fc2.bias[0] = float("nan")
    assert latents.prefix(model, torch.randn(4, 1, 16, 16)).warning


def test_confidences_that_do_not_hold_are_found(model, score):
    with torch.no_grad():
        model.output_adapter.ffn.weight *= 4
        model.output_adapter.ffn.bias *= 4
    check = answers.calibration(score(model))
    assert check.warning
    assert len(check.numbers["readouts"]) == 8
    assert all(readout["says"] > readout["right"] for readout in check.numbers["readouts"])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.sampled_from([50, 500, 5000]))
def test_perfect_confidences_hardly_ever_exceed_what_chance_adds(seed, n):
    rng = np.random.default_rng(seed)
    exceeded = 0
    for _ in range(20):
        sure = rng.uniform(0.1, 1, n)
        curve = reliability(sure, rng.random(n) < sure)
        exceeded += curve.calibration_error > answers.chance_error(curve)
    assert exceeded <= 5  # 2.3 % are to be expected


def test_memory_that_grows_with_the_square_of_the_batch_is_found():
    def linear(size):
        return torch.zeros(200_000), torch.zeros(size, 10_000)

    def square(size):
        return torch.zeros(1000, size), torch.zeros(size, size, 1000)

    healthy, sick = memory(linear, torch.device("cpu")), memory(square, torch.device("cpu"))
    assert not healthy.warning
    assert healthy.numbers["bytes_per_sample"] == pytest.approx(40_000, rel=0.01)
    assert sick.warning
    assert sick.numbers["growth"] > 3


def test_tables_that_tell_nothing_are_refused(make_table):
    table = make_table(40)
    with pytest.raises(UsageError, match="only classifiers"):
        answers.low_tokens(replace(table, prediction=None))
    with pytest.raises(UsageError, match="0 test samples"):
        answers.widths(table.take(table.rows("fit")))


def test_a_diagnosis_is_read_back_as_it_was(tmp_path):
    made = Diagnosis(
        {"path": "m.pt", "fingerprint": "f"}, {"name": "d"}, (Check("a", True, "v", "l", {"x": [1.5, None]}),)
    )
    made.save(tmp_path)
    assert Diagnosis.load(tmp_path) == made
    assert made.warnings == [made.checks[0]]


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"schema_version": 2}',
        '{"schema_version": 1}',
        '{"schema_version": 1, "checkpoint": {"path": "p", "fingerprint": "f"}, "data": {}, "checks": [{}]}',
        '{"schema_version": 1, "checkpoint": {"path": "p", "fingerprint": "f"}, "data": {}, "checks": '
        '[{"name": 3, "warning": true, "verdict": "", "limit": "", "numbers": {}}]}',
        "not json",
    ],
)
def test_a_damaged_diagnosis_is_refused(tmp_path, content):
    (tmp_path / "diagnosis.json").write_text(content)
    with pytest.raises(FileError, match=r"diagnosis\.json"):
        Diagnosis.load(tmp_path)
