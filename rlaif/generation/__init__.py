"""Generation: the student samples responses; a critic critiques and revises them."""
