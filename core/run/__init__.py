"""A run: configuration, command line, directory, checkpoints, events."""
