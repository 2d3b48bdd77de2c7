"""Forward passes: layouts, states, log-probabilities, the value head."""
