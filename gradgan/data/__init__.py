"""Real images and mixtures as streams of batches."""
