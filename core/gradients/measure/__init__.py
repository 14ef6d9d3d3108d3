"""What is measured of gradients: norms, curves by layer, noise scale, exponents, effective learning rates."""
