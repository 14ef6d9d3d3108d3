"""What was experienced: rollouts, the replay, running normalisation."""
