"""The loop: rounds that promote a checkpoint only when it measurably improved."""
