"""Policy-gradient agents, with the gradients in full view."""
