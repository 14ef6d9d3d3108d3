"""Two players, and the loss of each."""
