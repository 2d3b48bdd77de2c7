"""Serving: our scorers as the rewards of trainers elsewhere."""
