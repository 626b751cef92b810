"""Training samples by the number of their batch: always the same ones, whatever was asked for before."""

from adapcli.data.dataset import Batch, Dataset


class Endless:
    """A data set whose samples never repeat (`digits`): batch n is its n-th stretch."""

    def __init__(self, data: Dataset, size: int) -> None:
        self.data, self.size = data, size

    def batch(self, number: int) -> Batch:
        """See loop.Feed."""
        return self.data.batch(number * self.size, (number + 1) * self.size)
