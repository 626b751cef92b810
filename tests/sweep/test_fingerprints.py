"""A fingerprint follows the model, not its file."""

import pytest
import torch

import adapcli
from adapcli.errors import FileError
from adapcli.sweep.fingerprints import checkpoint_fingerprint, refuse_other


def test_the_same_model_in_two_formats_has_one_fingerprint(make_model, tmp_path):
    model = make_model()
    adapcli.save(model, tmp_path / "m.pt")
    adapcli.save(model, tmp_path / "folder")
    prints = {checkpoint_fingerprint(adapcli.load(tmp_path / name)) for name in ("m.pt", "folder")}
    assert prints == {checkpoint_fingerprint(model)}


def test_every_weight_counts(make_model):
    model = make_model()
    before = {checkpoint_fingerprint(model)}
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.view(-1)[-1] += 1e-3
        now = checkpoint_fingerprint(model)
        assert now not in before
        before.add(now)


def test_architecture_counts_where_weights_are_equal(make_model):
    assert checkpoint_fingerprint(make_model(mask="causal")) != checkpoint_fingerprint(
        make_model(mask="none")
    )


def test_differences_are_listed():
    stored = {"checkpoint": "a", "grid": {"tokens": [1, 2], "depths": [1]}, "more": 1}
    refuse_other("folder", stored, {"checkpoint": "a", "grid": {"tokens": [1, 2]}})
    with pytest.raises(FileError) as caught:
        refuse_other("folder", stored, {"checkpoint": "b", "grid": {"tokens": [1], "depths": [1]}, "seed": 0})
    assert caught.value.message == (
        "folder: made from something else: checkpoint: a there, b here; "
        "grid.tokens: [1, 2] there, [1] here; seed: None there, 0 here"
    )
