"""The command line: each command builds the objects that a recipe builds."""
