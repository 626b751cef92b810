import pytest

from policies.field import entrant as module


@pytest.fixture(scope="module")
def few():
    """A field of four, quick to train."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _thin(monkeypatch)
        yield


def _thin(monkeypatch):
    names = {"static", "threshold", "gate", "ppo"}
    left = {known.algo for known in module._KNOWN} - names
    monkeypatch.setattr(module, "_KNOWN", tuple(known for known in module._KNOWN if known.name in names))
    monkeypatch.setattr(module, "_LEFT_OUT", (*module._LEFT_OUT, *left))
