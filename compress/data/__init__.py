"""Text data for classification and regression: load from anywhere, find the columns, cut the splits."""

from compress.data.config import DataConfig, TextData
from compress.data.load import load_data

__all__ = ["DataConfig", "TextData", "load_data"]
