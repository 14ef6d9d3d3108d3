"""Networks that act: encoders, distributions, recurrence, exploration noise, and their NumPy copies."""
