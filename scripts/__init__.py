"""Thin entry points, installed as `core.scripts`."""
