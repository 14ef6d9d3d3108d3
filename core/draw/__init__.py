"""Pictures as arrays: one palette, heat maps, and how arrays become PNG and GIF bytes."""
