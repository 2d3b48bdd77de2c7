"""Batches: requests that are gathered in files and answered within a day, at half the price.

`wire` is the format, `folders` is what survives a crash, `gather` makes files of calls, `jobs`
are the steps at the server, and `client` joins them.
"""
