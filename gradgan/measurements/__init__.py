"""What is measured and drawn of both players together: their vector field, their logits, their samples."""
