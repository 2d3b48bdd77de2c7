"""Proximal policy optimisation for text, written to be read beside the papers.

From the inside out: `losses`, `advantages` (pure), `sampling`, `actor_critic`, `experience`,
`update`, `trainer` (the algorithm), `build`, `train` (what it hands to the harness).
"""
