"""Low-rank factorization of linear layers, aware of the inputs they see.

`linears` lists what is split, `svd` splits a matrix, `ranks` says at which rank, `latency` what a rank costs in
time, `fisher` weighs inputs by labels, `embedding` splits the token table; `run` puts them in a row.
"""
