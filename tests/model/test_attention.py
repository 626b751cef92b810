"""The block mask, and attention group by group."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from adapcli.errors import UnavailableError, UsageError
from adapcli.model.attention import block_mask, group_ends, grouped_attention
from adapcli.model.flex import flex, flex_mask
from adapcli.model.rope import rotate, rotate_back, rotation

CPU = torch.device("cpu")
RUNS = st.tuples(st.integers(1, 12), st.sets(st.integers(1, 14), min_size=1, max_size=5).map(sorted))

unfused = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def group_of(token, tokens, granularities):
    """By the definition: the index of the granularity a token falls in, t itself closing the last group."""
    allowed = [g for g in granularities if g <= tokens] + [tokens]
    return next(i for i, end in enumerate(allowed) if token < end)


@given(RUNS)
def test_a_token_attends_to_its_own_and_earlier_groups(run):
    tokens, granularities = run
    mask = block_mask(group_ends(tokens, granularities), CPU)
    group = [group_of(i, tokens, granularities) for i in range(tokens)]
    for i in range(tokens):
        assert mask[i].tolist() == [group[j] <= group[i] for j in range(tokens)]


@given(RUNS)
def test_groups_end_at_the_run(run):
    tokens, granularities = run
    ends = group_ends(tokens, granularities)
    assert ends[-1] == tokens
    assert list(ends) == sorted(set(ends))


@unfused
@pytest.mark.parametrize(
    "attend",
    [grouped_attention, lambda q, k, v, ends: flex(q, k, v, flex_mask(ends, CPU))],
    ids=["grouped", "flex"],
)
@settings(max_examples=50, deadline=None)
@given(run=RUNS, seed=st.integers(0, 10_000))
def test_either_way_equals_masked_attention(attend, run, seed):
    tokens, granularities = run
    ends = group_ends(tokens, granularities)
    q, k, v = torch.randn(3, 2, 2, tokens, 4, generator=torch.Generator().manual_seed(seed)).unbind()
    masked = scaled_dot_product_attention(q, k, v, attn_mask=block_mask(ends, CPU))
    torch.testing.assert_close(attend(q, k, v, ends), masked, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mask", ["block", "causal", "none"])
@pytest.mark.parametrize("tokens", [1, 2, 5, 8, 11])
@torch.no_grad()
def test_the_whole_model_answers_the_same_however_attention_is_executed(make_model, images, mask, tokens):
    model = make_model(mask=mask)
    configuration = model.full_configuration.__class__(tokens, 24, 3)
    dense = model(images, configuration, attention="dense").logits
    torch.testing.assert_close(model(images, configuration).logits, dense, atol=2e-5, rtol=1e-5)


def test_scores_depend_on_distance_only():
    turns = rotation(6, 8, theta=10000.0, trained_tokens=6, device=CPU)
    q, k = (
        torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0)).expand(-1, 1, 1, 6, 8).unbind()
    )
    scores = (rotate(q, turns) @ rotate(k, turns).transpose(-1, -2))[0, 0]
    for distance in range(-5, 6):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-5)


def test_pairs_of_channels_are_interleaved_and_turn_as_complex_numbers():
    turns = rotation(3, 4, theta=100.0, trained_tokens=8, device=CPU)
    x = torch.randn(1, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    angles = torch.outer(torch.arange(3.0), torch.tensor([1.0, 0.1]))
    turned = torch.view_as_complex(x.view(1, 1, 3, 2, 2)) * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(rotate(x, turns), torch.view_as_real(turned).flatten(-2))


def test_runs_up_to_the_trained_length_share_their_angles_and_longer_ones_are_squeezed():
    def turns(tokens):
        return rotation(tokens, 8, theta=10000.0, trained_tokens=8, device=CPU)

    torch.testing.assert_close(turns(8)[:, :3], turns(3), atol=0, rtol=0)
    torch.testing.assert_close(
        turns(16)[:, 2::2], turns(8)[:, 1:]
    )  # position 2i of 16 sits where i of 8 does


def test_turning_back_undoes_the_turn():
    turns = rotation(5, 8, theta=10000.0, trained_tokens=8, device=CPU)
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    there = rotate_back(x, turns)
    torch.testing.assert_close(rotate(there, turns), x[:, None].expand(2, 5, 8), atol=1e-6, rtol=1e-5)


@unfused
@pytest.mark.parametrize("mask", ["block", "causal", "none"])
@torch.no_grad()
def test_the_whole_model_answers_the_same_by_flex_attention_at_every_length(make_model, images, mask):
    model = make_model(mask=mask)
    for tokens in range(1, 13):
        configuration = model.full_configuration.__class__(tokens, 24, 3)
        flexible = model(images, configuration, attention="flex").logits
        torch.testing.assert_close(flexible, model(images, configuration).logits, atol=1e-5, rtol=1e-5)


@unfused
@torch.no_grad()
def test_flex_attention_does_not_depend_on_what_ran_before(make_model, images):
    """The published one keeps the last call's groups."""
    model = make_model()
    for granularities in ((1, 8), (2, 4, 8), (3, 5), (1, 8)):
        found = model(images, granularities=granularities, attention="flex").logits
        expected = model(images, granularities=granularities, attention="dense").logits
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    assert flex_mask((2, 4), CPU) is flex_mask([2, 4], CPU)


def test_a_mask_first_made_in_inference_mode_is_an_ordinary_one():
    with torch.inference_mode():
        made = flex_mask((1, 3, 7), CPU)
    assert not made.kv_indices.is_inference()


@unfused
def test_flex_attention_has_no_gradients_on_cpu_and_says_so(make_model, images):
    with pytest.raises(UnavailableError, match="no gradients on CPU"):
        make_model()(images, attention="flex")


def test_a_word_that_names_no_attention(make_model, images):
    with pytest.raises(UsageError, match="expected 'block', 'dense' or 'flex'"):
        make_model()(images, attention="sparse")


@unfused
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.slow
@torch.no_grad()
def test_flex_attention_compiles_and_answers_the_same():
    q, k, v = torch.randn(3, 2, 2, 8, 16, generator=torch.Generator().manual_seed(0)).unbind()
    mask = flex_mask((2, 4, 8), CPU)
    torch.testing.assert_close(torch.compile(flex)(q, k, v, mask), flex(q, k, v, mask), atol=1e-5, rtol=1e-5)
