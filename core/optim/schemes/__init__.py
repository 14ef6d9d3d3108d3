"""Update schemes of two players."""
