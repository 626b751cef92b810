"""One pass per width answers like every configuration run alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapcli.errors import UsageError
from adapcli.evaluation import passes
from adapcli.evaluation.passes import GridPass, pass_flops, plan_passes
from adapcli.model.flops import flops
from adapcli.model.perceiver import AdaPerceiver
from adapcli.space import ConfigSpace, Configuration


def images(n: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def gathered(model: AdaPerceiver, configurations: list[Configuration], x: torch.Tensor) -> torch.Tensor:
    logits = torch.full((len(x), len(configurations), 7), torch.nan)
    for columns, piece in GridPass(model, configurations).outputs(x):
        assert torch.isnan(logits[:, list(columns)]).all(), "a configuration came twice"
        logits[:, list(columns)] = piece
    return logits


def alone(model: AdaPerceiver, configurations: list[Configuration], x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return torch.stack([model(x, c).logits for c in configurations], 1)


variants = st.fixed_dictionaries({
    "mask": st.sampled_from(["block", "causal", "none"]),
    "ffn": st.sampled_from(["mlp", "swiglu"]),
    "use_embed_ffn": st.booleans(),
    "use_output_ffn": st.booleans(),
    "qkv_bias": st.booleans(),
})  # fmt: skip
tokens_sets = st.sets(st.sampled_from([1, 2, 3, 5, 8, 11]), min_size=1).map(lambda t: tuple(sorted(t)))
width_sets = st.sets(st.sampled_from([6, 13, 24]), min_size=1).map(lambda w: tuple(sorted(w)))
depth_sets = st.sets(st.integers(1, 3), min_size=1).map(lambda d: tuple(sorted(d)))


@settings(max_examples=40, deadline=None)
@given(variants, tokens_sets, width_sets, depth_sets, st.booleans(), st.integers(0, 99))
def test_equals_every_configuration_alone(make_model, variant, tokens, widths, depths, with_full, seed):
    model, x = make_model(seed, **variant), images(seed=seed)
    configurations = list(ConfigSpace(tokens, widths, depths))
    if with_full and model.full_configuration not in configurations:
        configurations.append(model.full_configuration)
    torch.testing.assert_close(
        gathered(model, configurations, x), alone(model, configurations, x), rtol=1e-4, atol=2e-5
    )


def test_the_distillation_model_is_read_for_its_logits(make_model):
    model, x = make_model(task="distillation", output_feat_dim=5), images()
    configurations = list(model.config.space)
    torch.testing.assert_close(
        gathered(model, configurations, x), alone(model, configurations, x), rtol=1e-4, atol=2e-5
    )


def test_batch_mates_change_nothing(make_model):
    model, x = make_model(), images(5)
    configurations = list(model.config.space)
    apart = torch.cat([gathered(model, configurations, x[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(gathered(model, configurations, x), apart, rtol=1e-5, atol=1e-6)


def test_reading_depth_by_depth_changes_nothing(make_model, monkeypatch):
    model, x = make_model(), images()
    configurations = list(model.config.space)
    together = gathered(model, configurations, x)
    monkeypatch.setattr(passes, "READOUT_BYTES", 1)
    torch.testing.assert_close(gathered(model, configurations, x), together, rtol=1e-5, atol=1e-6)


def test_a_grid_takes_one_pass_per_width(make_config):
    planned = plan_passes(make_config(), list(make_config().space))
    assert [p.run for p in planned] == [Configuration(8, w, 3) for w in (6, 13, 24)]
    assert all(len(p.readings) == 1 for p in planned)


def test_without_a_mask_every_token_count_runs_alone(make_config):
    config = make_config(mask="none")
    assert len(plan_passes(config, list(config.space))) == len(config.token_granularities) * len(
        config.widths
    )


def test_runs_end_at_the_deepest_wanted_block(make_config):
    config = make_config()
    space = config.space.restrict(depths=(1, 2), tokens=(2, 5), widths=(6, 24))
    planned = plan_passes(config, [*space, config.full_configuration])
    assert [p.run for p in planned] == [Configuration(5, 6, 2), Configuration(8, 24, 3)]


@pytest.mark.parametrize("mask", ["block", "causal", "none"])
def test_flops_of_a_single_configuration_are_its_cost(make_config, mask):
    config = make_config(mask=mask)
    for configuration in config.space:
        found = pass_flops(config, plan_passes(config, [configuration]))
        assert found == flops(config, configuration, readout="folded", attention="block")


def test_refuses_a_width_per_block(make_config):
    with pytest.raises(UsageError, match="one width"):
        plan_passes(make_config(), [Configuration(2, (6, 24), 2)])
