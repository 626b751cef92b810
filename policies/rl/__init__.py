"""Reinforcement learning over the outcome table with Stable-Baselines3; what is kept needs numpy only."""

from policies.rl.anytime import train_anytime
from policies.rl.mixer_policy import MixerPolicy
from policies.rl.network import NetworkPolicy
from policies.rl.recipes import ALGORITHMS
from policies.rl.reinforce import train_reinforce
from policies.rl.sb3 import from_sb3
from policies.rl.training import train

__all__ = [
    "ALGORITHMS",
    "MixerPolicy",
    "NetworkPolicy",
    "from_sb3",
    "train",
    "train_anytime",
    "train_reinforce",
]
