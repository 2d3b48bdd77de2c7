"""rlaif: constitutions, AI-labelled preferences, trainers and self-improvement loops."""
