"""ONNX files that are checked against the model they come from."""

from compress.exporting.export import export_onnx

__all__ = ["export_onnx"]
