"""Any training loop of torch, its gradients in full view, and what is wrong with it named."""
