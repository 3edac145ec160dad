"""What each part of a distillation brings, measured on packaged models and data."""
