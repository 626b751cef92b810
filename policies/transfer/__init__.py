"""Kept policies on other samples: what they were fitted on, what has drifted, when to calibrate anew."""

from policies.transfer.apply import Transfer, apply
from policies.transfer.drift import Drift, Shift, drift
from policies.transfer.reference import Reference, kept

__all__ = ["Drift", "Reference", "Shift", "Transfer", "apply", "drift", "kept"]
