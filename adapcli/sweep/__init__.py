"""Score every configuration on every sample, in one pass per width."""
