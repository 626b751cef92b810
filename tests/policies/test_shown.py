"""No `repr` of what a user gets prints more than a few lines."""

import torch

import adapcli
import policies
from policies.registry import _KINDS
from policies.shown import short_repr


def test_a_policy_of_every_kind_is_short():
    assert all(kind.__repr__ is short_repr for kind in _KINDS.values())


def test_what_training_gives_is_short(make_table):
    table = make_table(400)
    for algo in ("threshold", "supervised", "random"):
        trained = policies.train(algo, table, max_drop=0.2)
        assert len(repr(trained)) <= 300
        assert len(repr(trained.policy)) <= 300
        assert trained.policy.name in repr(trained.policy)


def test_answers_sessions_models_and_configs_are_short(make_model):
    model, x = make_model(), torch.randn(4, 1, 16, 16)
    session = adapcli.AnytimeSession(model, x, width=24)
    each = [model.full_configuration] * 4
    shown = [
        model,
        model.config,
        model(x),
        session,
        adapcli.run_grouped(model, x, each),
        session.extend(tokens=2, depth=1),
    ]
    assert max(len(repr(thing)) for thing in shown) <= 300
    assert repr(model(x)) == "Output(logits=float32 4 x 7, depth=int64 4)"


def test_a_table_is_short_and_says_one_row_per_configuration(make_table):
    table = make_table(401)
    assert len(repr(table)) <= 300
    assert "401 samples x 18 configurations" in repr(table)
    frame = table.to_frame()
    assert frame["cost_fraction"].max() == 1
    assert frame["score_test"].tolist() == table.score[table.rows("test")].mean(axis=0).tolist()
    assert "score_test" in table._repr_html_()


def test_a_search_is_short_and_its_front_a_frame(make_table):
    found = adapcli.search(make_table(400), flops_target=0.5)
    assert len(repr(found)) <= 300
    frame = found.to_frame()
    assert frame[frame["chosen"]]["index"].tolist() == [found.choice.index]
    assert "cost_fraction" in found._repr_html_()
