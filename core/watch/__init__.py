"""`Watch`: any training loop of torch, with its gradients in full view and what is wrong with it named."""

from core.watch.watch import Watch

__all__ = ["Watch"]
