"""The rows of a table are the splits one after the other, each sample once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapcli.data.splitting import SHARES
from adapcli.errors import UsageError
from adapcli.model.preprocessing import Preprocessing
from adapcli.sweep.samples import Samples, shares
from policies.table import SPLITS

sizes = st.tuples(*[st.integers(1, 20)] * 4)


@settings(max_examples=50, deadline=None)
@given(sizes, st.integers(1, 15), st.integers(1, 20))
def test_chunks_of_batches_give_every_sample_once_and_in_order(make_samples, sizes, batch, chunk):
    samples = make_samples(sizes)
    found = []
    for start in range(0, len(samples), chunk):
        stop = min(start + chunk, len(samples))
        pieces = list(samples.batches(start, stop, batch))
        assert all(len(piece.sample_ids) <= batch for _, piece in pieces)
        assert sum(len(piece.sample_ids) for _, piece in pieces) == stop - start
        found += [(split, name) for split, piece in pieces for name in piece.sample_ids]
    wanted = [(s, f"{s}/{i}") for s, size in zip(SPLITS, sizes, strict=True) for i in range(size)]
    assert found == wanted


@given(st.integers(4, 100_000), st.tuples(*[st.integers(1, 10**6)] * 4))
def test_a_limit_is_shared_out(limit, weights):
    found = shares(limit, dict(zip(SPLITS, weights, strict=True)))
    assert tuple(found) == SPLITS
    assert min(found.values()) >= 1
    assert limit - 4 < sum(found.values()) <= limit
    exact = [limit * weight / sum(weights) for weight in weights]
    assert all(abs(share - wanted) < 4 for share, wanted in zip(found.values(), exact, strict=True))


def test_a_limit_below_the_number_of_splits_is_refused():
    with pytest.raises(UsageError, match="4 or more"):
        shares(3, SHARES)


def test_digits_open_with_what_reopens_them():
    preprocessing = Preprocessing(32, 32, (0.0,), (1.0,))
    samples = Samples.open("digits", preprocessing, limit=44, seed=3)
    assert samples.sizes == {"fit": 12, "tune": 4, "calibration": 8, "test": 20}
    assert samples.facts == {"name": "digits", "seed": 3, "limits": samples.sizes, "split_by": "auto"}
    assert len(set(samples.fingerprints.values())) == 4


def test_a_folder_is_remembered_by_its_full_path(tmp_path, monkeypatch):
    from PIL import Image

    for label in "ab":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(40):
            name = tmp_path / "pictures" / label / f"{i}.png"
            Image.new("L", (16, 16), i + 100 * (label == "b")).save(name)
    (tmp_path / "pictures" / "a" / "broken.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    samples = Samples.open("folder:pictures", Preprocessing(16, 16, (0.0,), (1.0,)))
    assert samples.facts["name"] == f"folder:{tmp_path / 'pictures'}"
    assert samples.facts["split_by"] == "auto"
    assert len(samples) == 80
    assert samples.class_names == ["a", "b"]
    assert len(samples.skipped) == 1
    assert samples.skipped[0].startswith("a/broken.png: ")
