"""Samples read ahead by other processes are the same, and so is a table made of them."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapcli.sweep import sweep as sweep_module
from adapcli.sweep.reading import Reading, cuts
from adapcli.sweep.sweep import Sweep


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def sweep(make_model, make_samples):
    model = make_model()
    return Sweep(model, make_samples(), model.config.space, batch=5)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(sweep_module, "LARGEST_CHUNK", 8)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_table_is_the_same_with_processes_that_read_ahead(sweep, tmp_path, workers):
    sweep.run(tmp_path / "alone")
    dataclasses.replace(sweep, workers=workers).run(tmp_path / "helped")
    assert contents(tmp_path / "alone") == contents(tmp_path / "helped")


def test_a_sweep_goes_on_with_other_processes(sweep, tmp_path):
    def stop(done, total):
        if done > 20:
            raise KeyboardInterrupt

    sweep.run(tmp_path / "alone")
    with pytest.raises(KeyboardInterrupt):
        dataclasses.replace(sweep, workers=2).run(tmp_path / "cut", progress=stop)
    dataclasses.replace(sweep, workers=1).run(tmp_path / "cut", resume=True)
    assert contents(tmp_path / "alone") == contents(tmp_path / "cut")


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 12)] * 4),
    st.integers(1, 9),
    st.lists(st.integers(1, 47), unique=True, max_size=6),
)
def test_ranges_come_back_as_they_are_given_and_samples_with_them(make_samples, sizes, size, ends):
    splits = make_samples(sizes).splits
    edges = [0, *sorted(end for end in ends if end < sum(sizes)), sum(sizes)]
    given_ranges = list(itertools.pairwise(edges))[::2]
    drawn = []

    def ranges():
        for each in given_ranges:
            drawn.append(each)
            yield each

    reading, found = Reading(splits, ranges(), size, 0), []
    for start, stop in reading.ranges():
        found.append((start, stop))
        assert drawn == found  # without processes nothing is taken before it is needed
        for cut in cuts(splits, start, stop, size):
            batch, wanted = reading.take(cut), splits[cut.split].batch(cut.low, cut.high)
            assert batch.sample_ids == wanted.sample_ids
            assert torch.equal(batch.images, wanted.images)
    assert found == given_ranges


def test_other_rows_may_be_asked_for_meanwhile(make_samples):
    samples = make_samples()
    with samples.ahead([(0, 10), (20, 30)], 4, 1) as ranges:
        found = []
        for start, stop in ranges:
            found += [name for _, batch in samples.batches(start, stop, 4) for name in batch.sample_ids]
            assert len(list(samples.batches(3, 5, 4))) == 1
    names = [name for _, batch in samples.batches(0, 43, 100) for name in batch.sample_ids]
    assert found == names[:10] + names[20:30]


def test_rows_that_wait_for_their_chunk_do_not_hold_what_a_process_sent(sweep):
    """Each batch would otherwise keep a file descriptor open until its chunk is stored."""
    (_, batch), *_ = sweep.samples.batches(0, 4, 4)
    rows = sweep.scoring(batch, dtype=sweep.dtype, patches=0, recalibrated=None)
    sent = [batch.targets.numpy(), batch.images.numpy()]
    assert not any(np.shares_memory(values, shared) for values in rows.values() for shared in sent)
