"""Runs: the only door to run data on disk (ledger, shards, manifest, lock, log)."""
