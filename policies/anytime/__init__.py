"""Policies that look at each answer and decide whether, and how, to go on."""
