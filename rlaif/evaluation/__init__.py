"""Evaluation: what a model is worth, each figure with its interval and what it cannot tell."""
