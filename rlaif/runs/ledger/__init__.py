"""The ledger: every model call as a content-addressed fact."""
