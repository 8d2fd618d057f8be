"""The training engine: `python -m engine train PROFILE`, JSON lines on stdout."""

__version__ = "0.1.0"
