"""Where a run's curves, pictures and texts go: its event file, and what else was chosen."""
