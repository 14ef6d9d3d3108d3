"""Evaluations and videos of a policy."""
