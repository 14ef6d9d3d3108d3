"""Measuring a generator: metrics, pictures, cost."""
