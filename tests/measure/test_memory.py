import torch
from torch import nn

from adapcli.measure.memory import held_bytes, peak_bytes

CPU = torch.device("cpu")


def test_the_peak_is_the_most_that_is_held_at_once():
    def call():
        first = torch.empty(1000, dtype=torch.uint8)
        second = torch.empty(5000, dtype=torch.uint8)
        del first, second
        return torch.empty(5500, dtype=torch.uint8)

    assert peak_bytes(call, CPU) == 6000
    assert peak_bytes(lambda: None, CPU) == 0


def test_what_was_there_before_is_not_counted():
    before = torch.empty(10**6, dtype=torch.uint8)
    assert peak_bytes(lambda: before[:1000].clone(), CPU) == 1000


def test_nothing_is_said_on_stderr(capfd):
    peak_bytes(lambda: torch.ones(3), CPU)
    assert capfd.readouterr().err == ""


def test_shared_weights_are_held_once():
    layer = nn.Linear(10, 10)
    twice = nn.Sequential(layer, layer)
    x = torch.zeros(5)
    assert held_bytes(twice, x) == 4 * (100 + 10 + 5)
    assert held_bytes(twice, layer.weight[:2], x) == 4 * (100 + 10 + 5)
