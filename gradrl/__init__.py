"""Policy-gradient agents, with the gradients in full view."""

import core

if getattr(core, "__project__", None) != "gradsight":
    raise ImportError(f"'core' came from {core.__file__}, another project's: install gradsight on its own")
