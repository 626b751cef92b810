"""Training: recipes, losses and a loop that survives interruptions."""
