"""Judging: from a comparison to a judgment, a probability and not a bit."""
