"""How much accuracy is left when weights go and nothing is trained again: this toolkit and its peers side by side.

`python -m bench.no_retraining` prints the tables and writes them to `bench/results/no_retraining.md` and `.json`.
"""
