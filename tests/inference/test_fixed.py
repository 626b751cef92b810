"""A configuration as a plain function of images: the model's answers, at the cost that is told."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import adapcli
from adapcli.inference.fixed import ANSWERS, FixedModel
from adapcli.space import Configuration

variants = st.fixed_dictionaries(
    {
        "task": st.sampled_from(sorted(ANSWERS)),
        "mask": st.sampled_from(["block", "causal", "none"]),
        "ffn": st.sampled_from(["mlp", "swiglu"]),
        "use_output_ffn": st.booleans(),
        "qkv_bias": st.booleans(),
        "output_feat_dim": st.just(6),
        "num_bins": st.just(5),
    }
)
widths = st.integers(2, 24)
configurations = st.integers(1, 3).flatmap(
    lambda depth: st.builds(
        Configuration, st.integers(1, 12), widths | st.tuples(*[widths] * depth), st.just(depth)
    )
)


def images(n, size):
    return torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(2))


@settings(max_examples=80, deadline=None)
@given(variant=variants, configuration=configurations, size=st.sampled_from([16, 24, 35]))
@torch.no_grad()
def test_the_answers_are_the_models(make_model, variant, configuration, size):
    """Also beyond the trained length, and for images larger than trained for."""
    model, x = make_model(**variant), images(2, size)
    fixed, out = FixedModel(model, configuration, size), model(x, configuration)
    expected = [getattr(out, name) for name in ANSWERS[variant["task"]]]
    for found, wanted in zip(fixed(x), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_what_it_runs_costs_what_is_told(make_model, task):
    model = make_model(task=task, output_feat_dim=6)
    configuration = Configuration(5, 13, 2)
    fixed = FixedModel(model, configuration, 16).requires_grad_(False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        fixed(images(1, 16))
    assert counter.get_total_flops() == adapcli.flops(model.config, configuration, 16, "folded", "block")


def test_what_is_not_run_is_not_held(make_model):
    """The embedding's FFN, the read, two blocks of 13 units; of the write only what follows the fold."""
    model = make_model()
    held = FixedModel(model, Configuration(5, 13, 2), 16).state_dict()
    blocks = {name.split(".")[2] for name in held if ".blocks." in name}
    assert blocks == {"0", "1"}
    assert held["model.blocks.0.ffn.fc1.weight"].shape == (model.config.hidden(13), 24)
    assert {name for name in held if ".write_head." in name} == {
        "model.write_head.cattn.proj.weight",
        "model.write_head.cattn.proj.bias",
    }


def test_positions_are_resampled_once(make_model):
    """Exporters know no bicubic resampling with antialiasing."""
    fixed = FixedModel(make_model(), Configuration(5, 13, 2), 24)
    assert fixed.state_dict()["model.patch_embed.pos_embed"].shape == (1, 9, 24)


def test_the_model_stays_as_it_is(make_model):
    model = make_model(task="depth", output_feat_dim=6, num_bins=5).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fixed = FixedModel(model, Configuration(5, 13, 2), 24)
    assert model.training
    assert not fixed.model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
