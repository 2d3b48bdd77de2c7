"""Training: datasets in, checkpoint out. Never imports engines, judging or the pipeline."""
