"""The pipeline: the work on one prompt, and the executors that spread it."""
