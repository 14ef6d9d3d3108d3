"""Two players and what both want; their vector field and what is measured of it."""
