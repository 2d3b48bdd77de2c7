"""Batches: requests that are gathered in files and answered within a day, at half the price.

`wire` is the format, `folders` is what survives a crash, `client` gathers, sends, waits and joins.
"""
