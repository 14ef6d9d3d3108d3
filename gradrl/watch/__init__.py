"""Agents of other libraries, watched: their numbers under our tags, and the rules about agents."""
