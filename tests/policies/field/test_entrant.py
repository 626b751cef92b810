"""Who takes part."""

from policies import registry
from policies.field import entrant as module
from policies.field import entrants


def test_everybody_takes_part_under_a_name_of_their_own():
    everyone = entrants()
    names = [entrant.name for entrant in everyone]
    assert len(set(names)) == len(names)
    assert {entrant.algo for entrant in everyone} == set(registry.names()) - set(module._LEFT_OUT)
    first_by_trial = next(i for i, entrant in enumerate(everyone) if entrant.by_trial)
    assert all(entrant.by_trial for entrant in everyone[first_by_trial:])
    ranks = [entrant.rank for entrant in everyone]
    assert ranks == sorted(ranks)
    for entrant in everyone:
        assert set(entrant.options) <= set(entrant.takes), entrant


def test_an_algorithm_that_is_new_joins(monkeypatch):
    known = registry.names()
    monkeypatch.setattr(registry, "names", lambda: [*known, "brand-new"])
    assert "brand-new" in [entrant.name for entrant in entrants()]


def test_reinforce_needs_patches(make_table):
    (entrant,) = (entrant for entrant in module._KNOWN if entrant.algo == "reinforce")
    assert "--patches" in entrant.lacks(make_table(40))
