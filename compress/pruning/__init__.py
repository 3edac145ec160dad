"""Structured pruning: which heads, neurons and layers matter, and taking the others out.

`criteria` and `elimination` say which units go first, `search` how many by one budget, `surgery`, `layers` and
`hidden` cut; `run` puts them in a row.
"""
