"""The whole chain from mpnet-base to a file to ship, on three data sets."""
