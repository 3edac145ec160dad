"""What a model does on a few examples, and how what was taken away is made up for.

`examples` draws them, `statistics` measures layers, `allocation` spreads a budget over them, `targets` and
`reconstruction` re-solve weights by least squares. Pruning and factorization share all of it.
"""
