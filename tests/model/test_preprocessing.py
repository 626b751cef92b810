"""What happens to an image before the model sees it."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapcli.errors import FileError
from adapcli.model.preprocessing import Preprocessing, rgb

GOOD = {"size": 28, "resize": 32, "mean": [0.5], "std": [0.25], "interpolation": "bilinear"}


def test_published_preprocessing_is_resize_256_crop_224_with_clip_statistics():
    p = Preprocessing.published(224, 3)
    assert (p.resize, p.size, p.interpolation) == (256, 224, "bilinear")
    assert p.mean == (0.48145466, 0.4578275, 0.40821073)
    assert p.std == (0.26862954, 0.26130258, 0.27577711)


def test_images_that_are_not_rgb_are_left_as_they_are():
    p = Preprocessing.published(28, 1)
    assert p == Preprocessing(size=28, resize=28, mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize("size", [1, 28, 224, 518, 4096])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_it_round_trips_through_json_for_every_size_a_model_may_have(size, channels):
    p = Preprocessing.published(size, channels)
    assert Preprocessing.from_dict(json.loads(json.dumps(p.to_dict())), channels) == p


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "28"}, "size: expected a number of pixels"),
        ({"size": 0}, "size"),
        ({"size": True}, "size"),
        ({"size": 28.0}, "size"),
        ({"size": float("inf")}, "size"),
        ({"resize": 10**9}, "resize: expected a number of pixels up to 8192"),
        ({"resize": 20}, "resize 20: smaller than size 28"),
        ({"mean": [0.5, 0.5]}, "mean: expected 1 finite numbers"),
        ({"mean": "0"}, "mean"),
        ({"mean": [float("nan")]}, "mean"),
        ({"mean": [10**400]}, "mean"),
        ({"mean": [[0.5]]}, "mean"),
        ({"mean": [True]}, "mean"),
        ({"mean": None}, "mean"),
        ({"std": [0.0]}, "std: expected positive"),
        ({"std": [-1.0]}, "std"),
        ({"std": [float("inf")]}, "std"),
        ({"std": [float("nan")]}, "std"),
        ({"interpolation": "lanczos"}, "interpolation: expected bilinear, bicubic or nearest"),
        ({"interpolation": ["bilinear"]}, "interpolation"),
        ({"surprise": 1}, "expected the fields"),
        ({"crop": "top"}, "crop: expected centre or none"),
        ({"crop": "none"}, "crop none: resize 32 is not size 28"),
        ({"background": "red"}, "background: expected white, black or #RRGGBB"),
        ({"background": 7}, "background"),
    ],
    ids=str,
)
def test_wrong_values_are_refused(changes, message):
    with pytest.raises(FileError, match=message):
        Preprocessing.from_dict(GOOD | changes, 1)


@pytest.mark.parametrize("values", [None, [], "x", {}, {"size": 28}], ids=str)
def test_what_is_incomplete_is_refused(values):
    with pytest.raises(FileError, match="preprocessing"):
        Preprocessing.from_dict(values, 1)


def test_newer_fields_are_stored_only_where_they_differ():
    plain = Preprocessing.from_dict(GOOD, 1)
    assert plain.to_dict() == GOOD
    other = Preprocessing(28, 28, (0.5,), (0.25,), "nearest", "none", "#10Ff00")
    assert Preprocessing.from_dict(json.loads(json.dumps(other.to_dict())), 1) == other
    assert rgb(other.background) == (16, 255, 0)


json_like = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=3), st.lists, max_leaves=4
)


@given(st.sampled_from(sorted(GOOD)), json_like)
def test_any_value_gives_preprocessing_or_a_file_error(key, value):
    with suppress(FileError):
        p = Preprocessing.from_dict(GOOD | {key: value}, 1)
        assert Preprocessing.from_dict(p.to_dict(), 1) == p
