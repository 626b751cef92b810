"""A policy that looks at patches, run on pictures."""

import numpy as np
import pytest

import adapcli
from adapcli.data.pictures import Picture
from adapcli.errors import UsageError
from adapcli.inference.predict import Predictor
from adapcli.model.flops import embed_flops
from adapcli.space import Configuration
from adapcli.sweep.samples import Samples
from adapcli.sweep.sweep import Sweep
from policies.registry import train


def test_what_runs_is_what_was_evaluated_and_embedding_twice_is_paid_for(tmp_path, make_model):
    model = adapcli.load(adapcli.packaged())
    samples = Samples.open("digits", model.preprocessing, limit=300, class_names=model.class_names)
    space = model.config.space.restrict(tokens=(2, 8), widths=(32, 64))
    table = Sweep(model, samples, space, patches=2).run(tmp_path / "table")
    policy = train("reinforce", table, lambda_=0.2, timesteps=20_000).policy
    assert policy.patch_count == 4
    batch = samples.splits["test"].batch(0, len(samples.splits["test"]))
    found = [Picture(name, image) for name, image in zip(batch.sample_ids, batch.images, strict=True)]
    predictions, promised = list(Predictor(model, found, policy)), policy.select(table, table.rows("test"))
    names = table.configs[["tokens", "width", "depth"]]
    expected = [Configuration(*map(int, names.iloc[at])) for at in promised.configuration]
    same = np.array([p.configuration == c for p, c in zip(predictions, expected, strict=True)])
    assert same.mean() > 0.99
    cost = np.array([p.cost_flops for p in predictions])
    np.testing.assert_array_equal(cost[same], promised.cost_flops[same] + embed_flops(model.config))
    with pytest.raises(UsageError, match="patches 2: expected 1 to 1"):
        Predictor(make_model(image_size=8, num_classes=10), found, policy)
