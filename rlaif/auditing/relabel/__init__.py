"""Judge a finished run again under another constitution or with other judges."""
