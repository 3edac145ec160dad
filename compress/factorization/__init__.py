"""Low-rank factorization of linear layers, aware of the inputs they see.

`gram` records those inputs, `svd` splits a matrix, `ranks` says at which rank; `compress.passes.factorize`
puts them in a row.
"""
