"""A folder that runs a model where there is no torch and no compress: Python, Node, the browser."""

from compress.exporting.bundle.writer import write_bundle

__all__ = ["write_bundle"]
