"""Tasks with a value per pixel: metrics, signals of a readout, and runs of every configuration."""
