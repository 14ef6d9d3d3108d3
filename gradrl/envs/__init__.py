"""Environments: making them, wrappers, spaces, observations, and saving their state."""
