"""The work on prompts, spread over machines by Ray."""
