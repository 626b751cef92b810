"""The model: architecture, elastic layers, readout, cost and checkpoints."""
