"""What the machine is, and what running costs on it."""
