"""Reward models: trained on soft labels, measured against labels, lengths and calibration."""
