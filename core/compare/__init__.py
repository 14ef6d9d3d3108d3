"""Runs over their seeds, compared: a table and the learning curves."""
