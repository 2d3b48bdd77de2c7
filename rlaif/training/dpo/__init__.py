"""Direct preference optimisation and its relatives, with one soft label per pair."""
