"""Which configuration each ImageNet validation image needs: the published oracle data, where they are."""

import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np

from adapcli.model.config import ModelConfig
from adapcli.space import Configuration

DATA = Path(__file__).parents[3] / "shared/reference/oracle_imagenet/minimal_config.tar.gz"


def needed() -> Counter[Configuration] | None:
    """Images per cheapest correct configuration; those that none gets right are left out. None: no data."""
    if not DATA.exists():
        return None
    with tarfile.open(DATA) as archive:
        content = archive.extractfile("data.json")
        assert content is not None
        images = json.load(content).values()
    found = (image["optimal config"] for image in images if image["correct"])
    return Counter(Configuration(c["token_gran"], c["mat_dim"], c["depth"]) for c in found)


def on_axes_of(config: ModelConfig, images: Counter[Configuration]) -> Counter[Configuration] | None:
    """The same places on the axes of another model; None if it has not as many tokens, widths and depths."""
    published = ModelConfig(num_classes=1000)
    if [len(axis) for axis in axes(published)] != [len(axis) for axis in axes(config)]:
        return None
    tokens = dict(zip(published.token_granularities, config.token_granularities, strict=True))
    widths = dict(zip(published.widths, config.widths, strict=True))
    return Counter({Configuration(tokens[c.tokens], widths[c.width], c.depth): n for c, n in images.items()})


def axes(config: ModelConfig) -> tuple[tuple[int, ...], ...]:
    return config.space.tokens, config.space.widths, config.space.depths


def drawn(images: Counter[Configuration], n: int, seed: int = 0) -> list[Configuration]:
    """n configurations as often as in the data."""
    names, counts = zip(*sorted(images.items()), strict=True)
    rng = np.random.default_rng(seed)
    return [names[i] for i in rng.choice(len(names), n, p=np.array(counts) / sum(counts))]


def hazards(images: Counter[Configuration], depth: int) -> np.ndarray:
    """(L,) probability that an image that runs block 1..L is done after it."""
    stops = np.zeros(depth)
    for configuration, count in images.items():
        stops[configuration.depth - 1] += count
    reach = stops[::-1].cumsum()[::-1]
    return np.divide(stops, reach, out=np.ones(depth), where=reach > 0)
