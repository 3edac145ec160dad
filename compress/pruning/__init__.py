"""Structured pruning: which heads, neurons and layers matter, and taking the others out.

`criteria` scores, `masks` chooses, `surgery` and `layers` cut; `compress.passes.prune` puts them in a row.
"""
