"""What stands between backward and the optimizer: clipping, centralisation, noise, gradient surgery."""
