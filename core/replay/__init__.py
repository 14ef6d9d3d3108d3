"""A run taken to one of its steps again, to the bit, and that step with everything measured."""
