"""The folded readout gives the plain readout's answers and gradients."""

import copy
import gc
import itertools
import weakref

import pytest
import torch

from adapcli.errors import UsageError
from adapcli.model.readout import FoldedReadout, folded


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def plain(model, z, prefixes):
    """Each prefix written on its own, keys and values projected per token: (N, G, K)."""
    answers = [model.adapt(model.write_token(z[:, :t], model.rotation(z.shape[1])[:, :t])) for t in prefixes]
    return torch.stack(answers, 1)


def latents(tokens, n=6, scale=1.0):
    return scale * torch.randn(n, tokens, 24, generator=torch.Generator().manual_seed(tokens))


VARIANTS = [
    {},
    {"use_output_ffn": True},
    {"qkv_bias": False},
    {"proj_bias": False, "qkv_bias": False},
    {"task": "distillation"},
    {"num_heads": 1},
    {"num_heads": 12},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("prefixes", [(8,), (1,), (2, 4, 8), (1, 2, 3, 4, 5, 6, 7, 8), (3, 7)], ids=str)
@torch.no_grad()
def test_folded_equals_plain_for_every_prefix(make_model, changes, prefixes):
    model, z = make_model(**changes), latents(8)
    folded = FoldedReadout.of(model, 8).logits(z, prefixes)
    assert folded.shape == (6, len(prefixes), 5)
    assert relative(folded, plain(model, z, prefixes)) <= 1e-5


@pytest.mark.parametrize("tokens", [1, 2, 5, 8, 9, 13, 24])
@torch.no_grad()
def test_folded_equals_plain_for_runs_of_any_length(make_model, tokens):
    """Beyond the trained length (8) too, where the run's length sets every rotation."""
    model, z = make_model(), latents(tokens)
    assert relative(FoldedReadout.of(model, tokens).logits(z), plain(model, z, (tokens,))) <= 1e-5


@torch.no_grad()
def test_a_fold_for_the_longest_run_serves_the_shorter_ones(make_model):
    model, z = make_model(), latents(4)
    long, short = FoldedReadout.of(model, 8), FoldedReadout.of(model, 4)
    torch.testing.assert_close(long.logits(z, (2, 4)), short.logits(z, (2, 4)))


@pytest.mark.parametrize("scale", [1e-3, 1e3])
@torch.no_grad()
def test_sharp_attention_does_not_overflow(make_model, scale):
    model, z = copy.deepcopy(make_model()), latents(8, scale=scale)
    model.write_head.cattn.q.weight *= 300
    folded = FoldedReadout.of(model, 8).logits(z, (1, 2, 5, 8))
    assert folded.isfinite().all()
    assert relative(folded, plain(model, z, (1, 2, 5, 8))) <= 1e-4


@pytest.mark.parametrize("changes", [{}, {"use_output_ffn": True}, {"qkv_bias": False}], ids=str)
def test_gradients_equal_those_of_the_plain_form(make_model, changes):
    model, z, prefixes = copy.deepcopy(make_model(**changes)), latents(8).requires_grad_(), (2, 5, 8)
    parameters = dict(model.named_parameters())
    weight = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(9))

    def gradients(logits):
        wanted = [z, *parameters.values()]
        found = torch.autograd.grad((logits * weight).sum(), wanted, allow_unused=True)
        return dict(zip(["z", *parameters], found, strict=True))

    folded = gradients(FoldedReadout.of(model, 8).logits(z, prefixes))
    expected = gradients(plain(model, z, prefixes))
    touched = [name for name, g in expected.items() if g is not None]
    assert "z" in touched
    assert "write_head.cattn.k.weight" in touched
    assert "output_latents.token" in touched
    for name in touched:
        scale = max(expected[name].abs().max().item(), 1e-3)
        # A key bias shifts all scores alike: its true gradient is zero, which the fold may never compute.
        ours = torch.zeros_like(expected[name]) if folded[name] is None else folded[name]
        assert (ours - expected[name]).abs().max().item() <= 1e-4 * scale, name


@torch.no_grad()
def test_the_written_token_equals_the_plain_one(make_model):
    model, z = make_model(), latents(8)
    written = FoldedReadout.of(model, 8).written(z, (4, 8))
    expected = [model.write_token(z[:, :t], model.rotation(t)) for t in (4, 8)]
    assert relative(written, torch.stack(expected, 1)) <= 1e-5


@torch.no_grad()
def test_all_readouts_of_a_pass_equal_running_each_configuration(make_model, images):
    model, space = make_model(), make_model().config.space
    from adapcli.space import Configuration

    plan = model.plan(Configuration(8, 12, 3), len(images))
    states = model.states(model.read(model.embed(images), 8), plan)
    readout = FoldedReadout.of(model, 8)
    answers = torch.stack([readout.logits(z, space.tokens) for z in states])
    for (i, depth), (j, tokens) in itertools.product(enumerate(space.depths), enumerate(space.tokens)):
        alone = model(images, Configuration(tokens, 12, depth)).logits
        assert relative(answers[i, :, j], alone) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_model_of_half_precision_can_be_folded(make_model, dtype):
    model, z = make_model(), latents(8)
    exact = FoldedReadout.of(model, 8).logits(z, (4, 8))
    half = copy.deepcopy(model).to(dtype)
    rough = FoldedReadout.of(half, 8).logits(z.to(dtype), (4, 8))
    assert rough.dtype == dtype
    assert relative(rough.float(), exact) < 0.1


@pytest.mark.parametrize("task", ["features", "segmentation", "depth"])
def test_queries_made_from_patches_cannot_be_folded(make_model, task):
    with pytest.raises(UsageError, match=task):
        FoldedReadout.of(make_model(task=task), 8)


@pytest.mark.parametrize("prefixes", [(4, 2), (0, 4), (2, 2), (4, 9)], ids=str)
def test_prefixes_that_do_not_ascend_within_the_run_are_refused(make_model, prefixes):
    with pytest.raises(UsageError, match="prefixes"):
        FoldedReadout.of(make_model(), 8).logits(latents(8), prefixes)


class TestTheFoldThatIsKept:
    def keys(self, model):
        return folded(model).keys_THD

    @pytest.fixture
    def model(self, make_model):
        return copy.deepcopy(make_model())

    def test_it_is_made_once_for_all_runs_up_to_the_trained_length(self, model):
        keys = self.keys(model)
        assert folded(model, 2).keys_THD is keys
        assert folded(model, 8).keys_THD is keys
        assert folded(model, 9).keys_THD is not keys
        assert folded(model, 9).keys_THD is folded(model, 9).keys_THD
        assert not keys.requires_grad

    def in_place(self, model):
        with torch.no_grad():
            model.write_head.cattn.k.weight.mul_(2)

    def a_step_of_training(self, model):
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        FoldedReadout.of(model, 8).logits(latents(8)).square().sum().backward()
        optimizer.step()

    def loading(self, model):
        model.load_state_dict({name: t + 1 for name, t in model.state_dict().items()})

    def loading_by_assignment(self, model):
        model.load_state_dict({name: t + 1 for name, t in model.state_dict().items()}, assign=True)

    def replacing(self, model):
        model.output_latents.token = torch.nn.Parameter(model.output_latents.token.detach() + 1)

    def moving_to_another_type(self, model):
        model.double()

    @pytest.mark.parametrize(
        "change",
        [in_place, a_step_of_training, loading, loading_by_assignment, replacing, moving_to_another_type],
        ids=lambda change: change.__name__,
    )
    def test_it_is_made_anew_when_the_weights_change(self, model, change):
        before = self.keys(model)
        change(self, model)
        after = folded(model)
        assert after.keys_THD is not before
        z = latents(8).to(after.keys_THD.dtype)
        with torch.no_grad():
            assert torch.equal(after.logits(z), FoldedReadout.of(model, 8).logits(z))

    def test_weights_in_the_memory_of_earlier_ones_are_not_taken_for_them(self, model):
        """Freed memory is given out again: an address alone does not tell weights apart."""
        weight = model.write_head.cattn.k.weight
        for _ in range(5):
            self.keys(model)
            for _ in range(2):
                weight.data = torch.empty(0)
                weight.data = torch.randn(model.config.embed_dim, model.config.embed_dim)
            with torch.no_grad():
                exact = FoldedReadout.of(model, 8).logits(latents(8))
                assert torch.equal(folded(model).logits(latents(8)), exact)

    def test_a_copy_has_a_fold_of_its_own(self, model):
        self.keys(model)
        twin = copy.deepcopy(model)
        self.in_place(twin)
        with torch.no_grad():
            assert torch.equal(
                folded(model).logits(latents(8)), FoldedReadout.of(model, 8).logits(latents(8))
            )
            assert torch.equal(folded(twin).logits(latents(8)), FoldedReadout.of(twin, 8).logits(latents(8)))

    def test_made_in_inference_mode_it_serves_outside(self, model):
        with torch.inference_mode():
            self.keys(model)
        z = latents(8).requires_grad_()
        folded(model).logits(z).sum().backward()
        assert z.grad is not None

    def test_weights_that_cannot_be_watched_are_folded_each_time(self, model):
        with torch.inference_mode():
            twin = copy.deepcopy(model)
            self.keys(twin)
            twin.write_head.cattn.k.weight.mul_(2)
            found = folded(twin).logits(latents(8))
            assert torch.equal(found, FoldedReadout.of(twin, 8).logits(latents(8)))

    def test_autocast_does_not_round_what_is_kept(self, model):
        with torch.autocast("cpu", torch.bfloat16):
            keys = self.keys(model)
        with torch.no_grad():
            assert torch.equal(keys, FoldedReadout.of(model, 8).keys_THD)

    def test_it_does_not_keep_a_model_alive(self, make_model):
        model = copy.deepcopy(make_model())
        self.keys(model)
        gone = weakref.ref(model)
        del model
        gc.collect()
        assert gone() is None
