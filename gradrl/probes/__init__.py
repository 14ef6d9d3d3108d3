"""Probes of policy gradients."""
