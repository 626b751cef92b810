"""Running a model for real: continuing exactly, stopping when the answer is good enough."""
