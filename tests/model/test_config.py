"""Architectures: what is accepted, what is refused and with which words."""

import json
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapcli.errors import FileError
from adapcli.model.config import ModelConfig
from adapcli.space import Configuration

OWN = {"embed_dim": 24, "num_heads": 3, "widths": [6, 24], "num_classes": 5}
PUBLISHED = {
    "embed_dim": 64,
    "num_heads": 4,
    "depth": 5,
    "mat_dims": [32, 64],
    "mask_token_grans": [4, 16],
    "max_latent_tokens": 16,
    "img_size": 28,
    "patch_size": 7,
    "num_classes": 10,
}


def test_own_keys_round_trip_through_json():
    config = ModelConfig.from_dict(OWN)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert hash(config) == hash(ModelConfig.from_dict(config.to_dict()))


def test_published_keys_are_translated():
    config = ModelConfig.from_published(
        PUBLISHED
        | {"block_mask": "causal", "ffn_layer": "swiglu", "ls_init_values": 1e-6, "rope_theta": 5000}
    )
    assert config.widths == (32, 64)
    assert config.token_granularities == (4, 16)
    assert (config.image_size, config.mask, config.ffn) == (28, "causal", "swiglu")
    assert (config.layer_scale_init, config.rope_theta) == (1e-6, 5000.0)


def test_both_spellings_of_a_published_key_may_agree_but_not_differ():
    assert ModelConfig.from_published(PUBLISHED | {"token_grans": [4, 16]}).token_granularities == (4, 16)
    with pytest.raises(FileError, match="token_grans: given twice"):
        ModelConfig.from_published(PUBLISHED | {"token_grans": [4, 8]})


@pytest.mark.parametrize(
    ("given", "task"),
    [
        ({}, "classification"),
        ({"output_feat_dim": None}, "classification"),
        ({"output_feat_dim": 20}, "distillation"),
        ({"output_feat_dim": 20, "num_classes": None}, "features"),
        ({"output_feat_dim": 20, "task": "segmentation"}, "segmentation"),
    ],
)
def test_the_task_is_told_from_the_outputs_unless_it_is_named(given, task):
    assert ModelConfig.from_published(PUBLISHED | given).task == task


@pytest.mark.parametrize(
    "key", ["attn_drop", "drop_path", "head_drop", "proj_drop", "max_latent_tokens_mult"]
)
def test_keys_without_effect_on_an_evaluated_model_are_taken(key):
    assert ModelConfig.from_published(PUBLISHED | {key: 0.3}) == ModelConfig.from_published(PUBLISHED)


@given(st.integers(1, 832))
def test_hidden_units_are_the_floor_of_width_times_ratio(width):
    assert ModelConfig(num_classes=2).hidden(width) == int(width * 2.57)


def test_what_a_config_tells():
    config = ModelConfig.from_published(PUBLISHED)
    assert config.full_configuration == config.space.full == Configuration(16, 64, 5)
    assert len(config.space) == 2 * 2 * 5
    assert config.head_dim == 16


HOSTILE = [
    ({"depth": "21"}, "depth '21'"),
    ({"depth": 10**9}, "depth 1000000000"),
    ({"depth": 10**4000}, "depth"),
    ({"depth": 21.0}, "depth 21.0"),
    ({"depth": True}, "depth True"),
    ({"depth": None}, "depth None"),
    ({"depth": 0}, "depth 0"),
    ({"depth": -1}, "depth -1"),
    ({"depth": [[1]]}, r"depth \("),
    ({"depth": "x" * 10**6}, "depth 'xxx"),
    ({"embed_dim": 10**9}, "embed_dim"),
    ({"embed_dim": 23}, "embed_dim 23"),
    ({"num_heads": 0}, "num_heads 0"),
    ({"num_heads": 12, "embed_dim": 36, "widths": [36]}, "embed_dim 36"),
    ({"widths": []}, "widths"),
    ({"widths": [24, 6]}, "widths"),
    ({"widths": [6, 6]}, "widths"),
    ({"widths": [6, 48]}, "widths"),
    ({"widths": [0, 6]}, "widths.0 0"),
    ({"widths": "6,24"}, "widths '6,24'"),
    ({"widths": 24}, "widths 24"),
    ({"widths": ["6"]}, "widths.0 '6'"),
    ({"token_granularities": [300]}, "token_granularities"),
    ({"token_granularities": []}, "token_granularities"),
    ({"ffn_ratio": float("nan")}, "ffn_ratio nan"),
    ({"ffn_ratio": float("inf")}, "ffn_ratio inf"),
    ({"ffn_ratio": 1e-9}, "no hidden unit"),
    ({"ffn_ratio": "2.57"}, "ffn_ratio '2.57'"),
    ({"rope_theta": 0}, "rope_theta 0"),
    ({"rope_theta": 1e-300}, "rope_theta 1e-300"),
    ({"rope_theta": True}, "rope_theta True"),
    ({"layer_scale_init": float("nan")}, "layer_scale_init nan"),
    ({"image_size": 8}, "image_size 8"),
    ({"image_size": 65_536}, "image_size 65536"),
    ({"in_channels": 0}, "in_channels 0"),
    ({"num_classes": None}, "num_classes: needed"),
    ({"num_classes": 0}, "num_classes 0"),
    ({"task": "detection"}, "task 'detection'"),
    ({"task": "segmentation"}, "output_feat_dim: needed"),
    ({"mask": "diagonal"}, "mask 'diagonal'"),
    ({"ffn": "relu"}, "ffn 'relu'"),
    ({"use_embed_ffn": 1}, "use_embed_ffn 1"),
    ({"use_embed_ffn": "yes"}, "use_embed_ffn 'yes'"),
    ({"min_depth": 10.0, "max_depth": 1.0}, "min_depth"),
    ({"surprise": 1}, "surprise 1: unknown key"),
    ({"x" * 10**6: 1}, "unknown key"),
    ({"__class__": "os.system"}, "unknown key"),
    ({"embed_dim": 65_536, "num_heads": 64, "depth": 1000}, "parameters"),
    ({"embed_dim": 65_536, "num_heads": 64, "image_size": 4096, "patch_size": 4096}, "parameters"),
]


@pytest.mark.parametrize(("changes", "message"), HOSTILE, ids=lambda value: str(value)[:50])
def test_wrong_values_are_refused_naming_field_and_reason(changes, message):
    with pytest.raises(FileError, match=message) as caught:
        ModelConfig.from_dict(OWN | changes)
    assert len(caught.value.message) < 250
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surprise": 1}, "surprise: unknown key"),
        ({"x" * 10**6: 1}, "unknown key"),
        ({"act_layer": "relu"}, "act_layer 'relu': only gelu"),
        ({"norm_layer": "rmsnorm"}, "norm_layer 'rmsnorm'"),
        ({"act_layer": ["gelu"]}, r"act_layer \(list\)"),
        ({"process_token_init": "zeros"}, "process_token_init"),
        ({"depth": "5"}, "depth '5'"),
        ({"block_mask": None}, "mask None"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_wrong_published_values_are_refused_too(changes, message):
    with pytest.raises(FileError, match=message) as caught:
        ModelConfig.from_published(PUBLISHED | changes)
    assert len(caught.value.message) < 250


@pytest.mark.parametrize("values", [[], "text", None, 3, [("depth", 2)]], ids=str)
def test_what_is_no_object_is_refused(values):
    for read in (ModelConfig.from_published, ModelConfig.from_dict):
        with pytest.raises(FileError, match="expected an object"):
            read(values)


def nest(levels):
    """Lists that hold the same list twice, level upon level: tiny in memory, endless when written out."""
    content = [1]
    for _ in range(levels):
        content = [content, content]
    return content


@pytest.mark.timeout(20)
@pytest.mark.parametrize("key", ["depth", "widths", "task", "ffn_ratio", "surprise"])
def test_nests_that_would_never_end_when_written_out_are_refused_at_once(key):
    with pytest.raises(FileError):
        ModelConfig.from_dict(OWN | {key: nest(200)})
    with pytest.raises(FileError):
        ModelConfig.from_published(PUBLISHED | {key: nest(200)})


@pytest.mark.timeout(20)
def test_two_such_nests_are_not_compared():
    with pytest.raises(FileError, match="given twice"):
        ModelConfig.from_published(PUBLISHED | {"mask_token_grans": nest(200), "token_grans": nest(200)})


@pytest.mark.timeout(20)
def test_deep_nesting_is_refused():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(FileError):
        ModelConfig.from_dict(OWN | {"widths": deep})


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@given(st.sampled_from(sorted(ModelConfig.model_fields)), json_like)
@example("decoder_dim", 1)
def test_any_value_gives_a_config_or_a_file_error(key, value):
    for read, complete in ((ModelConfig.from_dict, OWN), (ModelConfig.from_published, PUBLISHED)):
        with suppress(FileError):
            config = read(complete | {key: value})
            assert ModelConfig.from_dict(config.to_dict()) == config
