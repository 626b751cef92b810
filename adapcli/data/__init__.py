"""Data: a name and a split give batches; what a policy may see before any model runs, and what that costs."""
