"""Distillation: objectives, teachers and students."""
