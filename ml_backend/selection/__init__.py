"""Scores in, indices out: how uncertain an image is, and which images to ask for next."""

from ml_backend.selection.strategies import STRATEGIES, Pool, lift
from ml_backend.selection.uncertainty import REDUCTIONS, SCORES, Passes, confidence, score_image

__all__ = [
    "REDUCTIONS",
    "SCORES",
    "STRATEGIES",
    "Passes",
    "Pool",
    "confidence",
    "lift",
    "score_image",
]
