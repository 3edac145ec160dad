"""Low-rank factorization of linear layers, aware of the inputs they see.

`svd` splits a matrix, `ranks` says at which rank, `fisher` weighs inputs by labels, `embedding` splits the token
table; `run` puts them in a row.
"""
