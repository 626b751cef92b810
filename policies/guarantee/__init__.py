"""Guarantees: with a stated confidence, a policy loses less than a limit against the full configuration."""

from policies.guarantee.certificate import Certificate, Group, kept
from policies.guarantee.certify import certified, certify
from policies.guarantee.exits import exits
from policies.guarantee.promise import Promise
from policies.guarantee.words import promised, told

__all__ = ["Certificate", "Group", "Promise", "certified", "certify", "exits", "kept", "promised", "told"]
