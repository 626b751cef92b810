"""What a model's answers say: signals, per-sample metrics, and calibration."""
