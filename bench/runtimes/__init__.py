"""The same sentences through every runtime that a bundle is made for: `python -m bench.runtimes MODEL`."""
