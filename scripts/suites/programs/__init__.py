"""Small loops in plain PyTorch, watched by `core.Watch`: faulty ones, their fixed twins, healthy ones."""
