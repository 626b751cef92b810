"""Input-only policies learned from full feedback: the table tells every configuration's outcome."""

from policies.supervised.priced import ALGORITHMS, Priced
from policies.supervised.training import train_knn, train_linear, train_supervised

__all__ = ["ALGORITHMS", "Priced", "train_knn", "train_linear", "train_supervised"]
