"""int8 beside its peers: speed of the very files, accuracy, agreement."""
