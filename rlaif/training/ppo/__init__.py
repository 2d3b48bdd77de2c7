"""Proximal policy optimisation for text, written to be read beside the papers."""
