"""What `bench.py suite=NAME` measures, one file a suite."""
