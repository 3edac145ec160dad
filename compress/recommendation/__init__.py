"""Which form of a model, in which runtime, is the fastest on this machine and still right."""

from compress.recommendation.run import Recommendation, recommend, summary

__all__ = ["Recommendation", "recommend", "summary"]
