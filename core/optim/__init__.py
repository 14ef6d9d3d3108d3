"""What torch.optim lacks: two-player schemes, averages, schedules, and the factory."""
