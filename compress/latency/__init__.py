"""What models take in time on this machine, by what is left in their layers.

`timing` exports and times variants of a model, `cache` keeps what was found. Pruning and factorization each have
a table of their own, fitted to such times.
"""
