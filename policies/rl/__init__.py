"""Reinforcement learning over the outcome table with Stable-Baselines3; what is kept needs numpy only."""

from policies.rl.network import NetworkPolicy
from policies.rl.recipes import ALGORITHMS
from policies.rl.training import train

__all__ = ["ALGORITHMS", "NetworkPolicy", "train"]
