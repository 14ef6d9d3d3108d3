"""A trained network as a file for other programs, and the card that says what it is."""
