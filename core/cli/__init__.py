"""From the command line to a run: overrides, composition, checks, sweeps, resuming."""
