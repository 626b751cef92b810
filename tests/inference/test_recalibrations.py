"""What a policy sees live is what it saw in a calibrated table."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import adapcli
from adapcli.data.pictures import Picture
from adapcli.errors import UsageError
from adapcli.evaluation.outcomes import signals
from adapcli.inference.anytime import AnytimeRun, run_anytime
from adapcli.inference.grouped import run_grouped
from adapcli.inference.policy_job import policy_job
from adapcli.inference.predict import Predictor
from adapcli.inference.recalibrations import Recalibrations
from adapcli.inference.session import AnytimeSession
from adapcli.space import Configuration
from adapcli.sweep.samples import Samples
from adapcli.sweep.sweep import Sweep
from policies import train
from policies.baselines import Static
from policies.grid import Grid
from policies.table.recalibration import Recalibration
from policies.threshold import Threshold

CLOSE = 1e-3  # as far as float32 carries log-odds from one batch to another


def strong(n_configs, classes=10):
    """One that changes every answer's signals and many answers, so that leaving it out must show."""
    rng = np.random.default_rng(0)
    return Recalibration(rng.uniform(0.5, 3, n_configs), rng.normal(0, 1.5, (n_configs, classes)))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The packaged model, scenes of digits, a table of calibrated answers and one of the model's own."""
    model = adapcli.load(adapcli.packaged())
    samples = Samples.open("digits", model.preprocessing, limit=500, class_names=model.class_names)
    plain = Sweep(model, samples, model.config.space.restrict(tokens=(2, 8), widths=(32, 64)))
    folder, calibrated = tmp_path_factory.mktemp("sweep"), strong(len(plain.configurations))
    table = replace(plain, recalibration=calibrated).run(folder / "table")
    return model, samples, table, plain.run(folder / "plain")


@pytest.fixture(scope="module")
def images(swept):
    data = swept[1].splits["test"]
    return data.batch(0, len(data)).images


def configurations(table):
    frame = table.configs[["tokens", "width", "depth"]]
    return [Configuration(*map(int, row)) for row in frame.itertuples(index=False)]


def test_the_tables_differ_where_answers_do(swept):
    _, _, table, plain = swept
    assert 0.05 < (table.prediction != plain.prediction).mean() < 0.9
    assert (np.abs(table.signals - plain.signals).max(-1) > 0.01).mean() > 0.5


def test_every_readout_of_a_session_says_what_the_table_says(swept, images):
    model, _, table, _ = swept
    rows, change = table.rows("test"), Recalibrations.of(Grid.of(table), model)
    for width in (32, 64):
        session = AnytimeSession(model, images, width=width, recalibrations=change)
        for at, configuration in enumerate(configurations(table)):
            if configuration.width != width or configuration.tokens != 8:
                continue
            logits = session.extend(tokens=8, depth=configuration.depth).readout().logits
            np.testing.assert_allclose(signals(logits), table.signals[rows, at], atol=CLOSE)
            assert (logits.argmax(-1).numpy() == table.prediction[rows, at]).mean() > 0.99


def test_parts_of_a_session_keep_it(swept, images):
    model, _, table, _ = swept
    change = Recalibrations.of(Grid.of(table), model)
    whole = AnytimeSession(model, images[:6], width=64, recalibrations=change).extend(tokens=8, depth=1)
    mask = torch.arange(6) % 2 == 0
    left, right = whole.split(mask)
    both = AnytimeSession.join([left, right]).readout().logits
    again = torch.cat([whole.readout().logits[mask], whole.readout().logits[~mask]])
    torch.testing.assert_close(both, again, rtol=1e-4, atol=1e-4)
    other = AnytimeSession(model, images[:6], width=64).extend(tokens=8, depth=1)
    with pytest.raises(UsageError, match="different points"):
        AnytimeSession.join([left, other])


@pytest.mark.parametrize("algo", ["threshold", "gate", "static", "supervised"])
def test_decisions_answers_and_costs_are_those_of_the_table(swept, images, algo):
    model, _, table, _ = swept
    policy, rows = train(algo, table, lambda_=0.1).policy, table.rows("test")
    assert policy.grid.recalibration.digest == table.recalibration.digest
    found = [Picture(str(i), image) for i, image in enumerate(images)]
    predictor = Predictor(model, found, policy)
    predictions, promised = list(predictor), policy.select(table, rows)
    expected = [configurations(table)[at] for at in promised.configuration]
    same = np.array([p.configuration == c for p, c in zip(predictions, expected, strict=True)])
    assert (~same).sum() <= min(predictor.tally.near, len(rows) // 50)
    answers, sure = (np.array([getattr(p, n)[0] for p in predictions]) for n in ("classes", "confidences"))
    at = rows, promised.configuration
    close = np.abs(table.signal("margin")[at]) > 1e-4
    assert np.array_equal(answers[same & close], table.prediction[at][same & close])
    np.testing.assert_allclose(sure[same], table.signal("confidence")[at][same], atol=CLOSE)
    costs = np.array([p.cost_flops for p in predictions])
    np.testing.assert_array_equal(costs[same], promised.cost_flops[same])


def test_without_it_a_threshold_would_decide_otherwise(swept, images):
    """The test above can fail."""
    model, _, table, plain = swept
    chain = [i for i, c in enumerate(configurations(table)) if (c.tokens, c.width) == (8, 64)]
    stops = [
        run_anytime(model, images, Threshold(Grid.of(each), tuple(chain), 0.7)).configurations
        for each in (table, plain)
    ]
    assert stops[0] != stops[1]


def test_a_bench_runs_it_too(swept, images):
    model, _, table, _ = swept
    for policy in (Static(Grid.of(table), 3), Threshold(Grid.of(table), (0, 1, 2), 0.7)):
        answers = policy_job("p", policy, model, images[:8], 4, torch.float32).call()
        at = [configurations(table).index(c) for c in answers.configurations]
        expected = table.signals[table.rows("test")[:8], at]
        np.testing.assert_allclose(signals(answers.output.logits), expected, atol=CLOSE)


def test_grouped_configurations_get_it_if_asked(swept, images):
    model, _, table, plain = swept
    grid, wanted = configurations(table), []
    wanted = [grid[i % len(grid)] for i in range(20)]
    at = table.rows("test")[:20], [i % len(grid) for i in range(20)]
    change = Recalibrations.of(Grid.of(table), model)
    for recalibrations, each in ((change, table), (None, plain)):
        answers = run_grouped(model, images[:20], wanted, recalibrations=recalibrations)
        np.testing.assert_allclose(signals(answers.output.logits), each.signals[at], atol=CLOSE)


def test_a_configuration_that_was_not_scored_is_refused(swept, images):
    model, _, table, _ = swept
    change = Recalibrations.of(Grid.of(table), model)
    session = AnytimeSession(model, images[:2], width=16, recalibrations=change).extend(tokens=1, depth=1)
    with pytest.raises(UsageError, match="t1 w16 l1: not calibrated"):
        session.readout()


def test_other_classes_are_refused_before_anything_runs(swept, images):
    model, _, table, _ = swept
    grid = replace(Grid.of(table), recalibration=strong(table.n_configs, 7))
    with pytest.raises(UsageError, match="of 7 classes, not 10"):
        AnytimeRun(model, images, Threshold(grid, (0, 1), 0.5))


def test_bfloat16_answers_are_recalibrated_in_float32(swept, images):
    model, _, table, _ = swept
    change = Recalibrations.of(Grid.of(table), model)
    session = AnytimeSession(model, images[:4], width=64, recalibrations=change).extend(tokens=8, depth=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert session.readout().logits.dtype == torch.float32
