"""The search for good options: studies of Optuna whose trials are runs like any other."""
