"""What each principle does to the labels."""
