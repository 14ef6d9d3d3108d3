"""Gradient descent on functions with known critical points and on small objectives."""
