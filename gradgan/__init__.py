"""Generative adversarial networks with the gradients of both players in full view."""
