"""Amounts as people read them."""

import pytest

from adapcli.commands.units import bytes_text, flops_text, percent_text, seconds_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (flops_text(76_381_000_000), "76.38 GFLOPs"),
        (flops_text(0), "0 FLOPs"),
        (flops_text(999), "999 FLOPs"),
        (flops_text(1e21), "1000 EFLOPs"),
        (flops_text(1e24), "1.000e+06 EFLOPs"),
        (bytes_text(3 << 20), "3.000 MiB"),
        (bytes_text(500), "500 B"),
        (seconds_text(0.25), "0.25 s"),
        (seconds_text(119), "119 s"),
        (seconds_text(600), "10 min"),
        (seconds_text(9000), "2.5 h"),
        (seconds_text(3e6), "34.7 days"),
        (percent_text(0.934), "93.4 %"),
    ],
)
def test_amounts(text, expected):
    assert text == expected
