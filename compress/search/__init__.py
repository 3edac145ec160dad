"""The best model within limits that the user names; `run.search` is the whole of it."""
