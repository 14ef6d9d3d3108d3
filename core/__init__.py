"""Gradients in full view: clip, track, step and explain the gradients of any `torch.nn.Module`."""

# `core` is a common name. The packages above look for this mark, so that another distribution's `core`,
# or a `core/` folder in the working directory, is told apart from ours by one clear line.
__project__ = "gradsight"
__version__ = "0.1.0"
