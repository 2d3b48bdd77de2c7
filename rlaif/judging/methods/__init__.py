"""The judge methods, one file each."""
