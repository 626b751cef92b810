"""An extracted model is the original's configuration, and every smaller one."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adapcli
from adapcli.errors import FileError, UsageError
from adapcli.evaluation.passes import GridPass
from adapcli.model.flops import memory_bytes
from adapcli.space import Configuration

CONVENTIONS = [{"readout": "plain", "attention": "dense"}, {"readout": "folded", "attention": "block"}]
TASKS = ("classification", "features", "distillation", "segmentation", "depth")

variants = st.fixed_dictionaries(
    {
        "task": st.sampled_from(TASKS),
        "mask": st.sampled_from(["block", "causal", "none"]),
        "ffn": st.sampled_from(["mlp", "swiglu"]),
        "ffn_ratio": st.sampled_from([0.9, 2.57]),
        "use_embed_ffn": st.booleans(),
        "use_output_ffn": st.booleans(),
        "qkv_bias": st.booleans(),
        "output_feat_dim": st.just(6),
        "num_bins": st.just(5),
        "seed": st.integers(0, 3),
    }
)
widths = st.sampled_from([6, 13, 24]) | st.integers(2, 24)
cuts = st.integers(1, 3).flatmap(
    lambda depth: st.builds(
        Configuration,
        st.sampled_from([1, 2, 5, 8]) | st.integers(1, 8),
        widths | st.tuples(*[widths] * depth),
        st.just(depth),
    )
)


def images(n=2, size=16, seed=1):
    return torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def assert_same(model, configuration, small, own):
    """Answers and costs of two models agree; images larger than trained for, so that nothing hides there."""
    x = images(size=24)
    expected, found = model(x, configuration), small(x, own)
    for name in ("logits", "features", "maps", "depth"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-6, rtol=1e-6)
    for words in CONVENTIONS:
        assert adapcli.flops(small.config, own, 24, **words) == adapcli.flops(
            model.config, configuration, 24, **words
        )
    assert memory_bytes(small.config, own) == memory_bytes(model.config, configuration)


@settings(max_examples=80, deadline=None)
@given(variant=variants, cut=cuts)
def test_the_full_configuration_equals_the_one_extracted(make_model, variant, cut):
    model = make_model(**variant)
    small = adapcli.extract(model, cut)
    full = small.full_configuration
    assert (full.tokens, full.width, full.depth) == (cut.tokens, max(cut.widths()), cut.depth)
    assert_same(model, cut, small, full)


@settings(max_examples=60, deadline=None)
@given(variant=variants, cut=cuts, data=st.data())
def test_every_smaller_configuration_equals_the_originals(make_model, variant, cut, data):
    """Trained for or not, a width for all blocks or one for each."""
    model = make_model(**variant)
    small = adapcli.extract(model, cut)
    depth = data.draw(st.integers(1, cut.depth))
    tokens = data.draw(st.integers(1, cut.tokens))
    one = st.integers(2, max(cut.widths()))
    width = data.draw(one | st.tuples(*[one] * depth))
    own = Configuration(tokens, width, depth)
    clamped = tuple(map(min, own.widths(), cut.widths()))
    assert_same(model, Configuration(tokens, clamped, depth), small, own)


@settings(max_examples=25, deadline=None)
@given(variant=variants, cut=cuts, data=st.data())
def test_extracting_twice_is_extracting_once(make_model, variant, cut, data):
    once = adapcli.extract(make_model(**variant), cut)
    inner = data.draw(st.sampled_from(list(once.config.space)))
    twice = adapcli.extract(once, inner)
    widths = tuple(map(min, inner.widths(), cut.widths()))
    direct = adapcli.extract(make_model(**variant), Configuration(inner.tokens, widths, inner.depth))
    assert twice.config.space.tokens == direct.config.space.tokens
    assert twice.state_dict().keys() == direct.state_dict().keys()
    assert all(torch.equal(t, direct.state_dict()[name]) for name, t in twice.state_dict().items())


def test_what_remains_of_the_grid(make_model):
    model = make_model()
    space = adapcli.extract(model, Configuration(5, 13, 2)).config.space
    assert (space.tokens, space.widths, space.depths) == ((1, 2, 5), (6, 13), (1, 2))
    space = adapcli.extract(model, Configuration(6, (20, 3), 2)).config.space
    assert (space.tokens, space.widths, space.depths) == ((1, 2, 5, 6), (6, 13, 20), (1, 2))
    assert adapcli.extract(model, model.full_configuration).config == model.config


def test_a_sweep_of_the_smaller_model_is_that_part_of_the_originals(make_model):
    model, x = make_model(), images(3)
    small = adapcli.extract(model, Configuration(5, 13, 2))
    configurations = list(small.config.space)
    tables = []
    for each in (model, small):
        table = torch.empty(3, len(configurations), 7)
        for columns, logits in GridPass(each, configurations).outputs(x):
            table[:, list(columns)] = logits
        tables.append(table)
    torch.testing.assert_close(tables[1], tables[0], atol=1e-6, rtol=1e-6)


def test_a_session_and_widths_per_sample_run_on_it(make_model):
    model, x = make_model(), images(3)
    small = adapcli.extract(model, Configuration(5, (24, 6), 2))
    session = adapcli.AnytimeSession(small, x, width=24).extend(tokens=2, depth=1).extend(tokens=5, depth=2)
    expected = model(x, Configuration(5, (24, 6), 2)).logits
    torch.testing.assert_close(session.readout().logits, expected, atol=1e-5, rtol=1e-5)
    cost = adapcli.flops(model.config, Configuration(5, (24, 6), 2), 16, "folded", "block")
    assert session.cost_flops.tolist() == [cost] * 3
    mixed = small(x, Configuration(5, 24, 2), widths=[6, 13, 24]).logits
    for i, width in enumerate((6, 13, 24)):
        alone = model(x[i : i + 1], Configuration(5, (width, min(width, 6)), 2)).logits
        torch.testing.assert_close(mixed[i : i + 1], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["small", "small.pt"])
@pytest.mark.parametrize("width", [13, (13, 6), 24])
def test_it_is_stored_smaller_and_loads_like_any_other(make_model, tmp_path, name, width):
    model = make_model(class_names=list("abcdefg"))
    small = adapcli.extract(model, Configuration(5, width, 2))
    adapcli.save(small, tmp_path / name)
    adapcli.save(model, tmp_path / f"whole-{name}")
    loaded = adapcli.load(tmp_path / name)
    assert (loaded.config, loaded.preprocessing) == (small.config, model.preprocessing)
    assert loaded.class_names == tuple("abcdefg")
    assert torch.equal(loaded(images()).logits, small(images()).logits)
    sizes = [
        sum(tensor.numel() for tensor in torch_model.state_dict().values()) for torch_model in (model, loaded)
    ]
    held = [model.config.hidden(w) for w in Configuration(5, width, 2).widths()]
    block = sum(t.numel() for t in model.blocks[0].state_dict().values())
    saved = sum((model.config.hidden(24) - units) * (24 + 1 + 24) for units in held)
    assert sizes[0] - sizes[1] == block + saved


def test_the_smaller_model_shares_no_memory_and_keeps_its_mode(make_model):
    model = make_model()
    small = adapcli.extract(model, Configuration(2, 13, 2))
    before = small(images()).logits
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(small(images()).logits, before)
    assert not small.training
    assert all(parameter.requires_grad for parameter in small.parameters())
    model.load_state_dict(state)
    assert adapcli.extract(model.train(), Configuration(2, 13, 2)).training
    model.eval()


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (Configuration(9, 24, 3), "tokens 9: beyond the trained length"),
        (Configuration(0, 24, 3), "tokens 0"),
        (Configuration(2, 25, 3), "width 25"),
        (Configuration(2, 24, 4), "depth 4"),
        (Configuration(2, (24, 24), 3), "2 values for depth 3"),
    ],
)
def test_what_cannot_be_run_cannot_be_extracted(make_model, configuration, message):
    with pytest.raises(UsageError, match=message):
        adapcli.extract(make_model(), configuration)


def test_units_that_are_not_there_are_not_run(make_model):
    small = adapcli.extract(make_model(), Configuration(2, 13, 2))
    with pytest.raises(UsageError, match="width 14: not allowed") as caught:
        small(images(), Configuration(2, 14, 2))
    assert caught.value.hint == "allowed: up to 13"


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ([13], "block_widths: expected one per block, 2"),
        ([13, 13, 13], "block_widths: expected one per block, 2"),
        ([], "block_widths: expected one per block, 2"),
        ([13, 25], "block_widths: beyond embed_dim 24"),
        ([6, 6], "widths: beyond the widest of block_widths, 6"),
        ([0, 13], "block_widths.0 0"),
        ([-1, 13], "block_widths.0 -1"),
        ([13, "13"], "block_widths.1 '13'"),
        ([13, 13.0], "block_widths.1 13.0"),
        ([13, None], "block_widths.1 None"),
        ([13, 10**30], "block_widths.1"),
        (13, "block_widths 13"),
        ("13,13", "block_widths '13,13'"),
        (None, "6 tensors of the wrong shape: blocks.0.ffn"),
        ([13, 6], "tensors of the wrong shape: blocks.1.ffn.fc1.weight"),
        ([6, 13], "tensors of the wrong shape: blocks.0.ffn.fc1.weight"),
    ],
    ids=str,
)
def test_a_strangers_block_widths_are_checked(make_model, tmp_path, held, message):
    adapcli.save(adapcli.extract(make_model(), Configuration(2, 13, 2)), tmp_path / "m")
    file = tmp_path / "m/config.json"
    header = json.loads(file.read_text())
    assert header["config"]["block_widths"] == [13, 13]
    header["config"]["block_widths"] = held
    file.write_text(json.dumps(header))
    with pytest.raises(FileError, match=message) as caught:
        adapcli.load(tmp_path / "m")
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.message


def test_no_block_may_be_without_units(make_config):
    config = make_config(ffn_ratio=0.5)
    with pytest.raises(FileError, match="a block has no hidden unit"):
        type(config).from_dict(config.to_dict() | {"block_widths": [24, 1, 24]})


def test_whole_models_are_described_as_before(make_model):
    assert "block_widths" not in make_model().config.to_dict()
