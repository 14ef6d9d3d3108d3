"""Functions with known critical points, and the paths that optimizers take on them."""
