"""Measuring and filming a policy."""
