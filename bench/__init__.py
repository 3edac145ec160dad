"""The project's own benchmarks: what a user waits for, measured; results are in `bench/results/`."""
