"""What learning with torch must leave as it was: the number of threads and the global random generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def one_thread() -> Iterator[None]:
    """Tiny networks are slower, and less regular, on several threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def private_randomness() -> Iterator[None]:
    """Whatever is seeded or drawn inside, the global generators end as they began."""
    import torch

    states: tuple[Any, Any] = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
